"""Optuna's tables, as SQLAlchemy Core sees them, and the statements that both databases spell differently."""

import contextlib
import datetime
import functools
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import sqlalchemy
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from ..optuna_private import optuna_tables
from .addresses import reason_of

#: A server's clock, as the transaction began: naive UTC.
SERVER_CLOCK: Final = sqlalchemy.func.timezone("utc", sqlalchemy.func.now(), type_=sqlalchemy.DateTime())
_NOW: Final = "caviar_now"
#: What to do about a damaged database.
DAMAGED_WAY_OUT = "`caviar doctor` says how to save what can be read."


def upsert(connection: sqlalchemy.Connection, rows_of: Mapping[sqlalchemy.Table, Sequence[Mapping[str, Any]]]) -> None:
    """Insert rows into some of Optuna's tables, or update those with the same unique key.

    All rows of a table have the same columns, and none share a key. A server gets one statement for all, and a column
    as an array: it would run a statement for each row otherwise, at five times the cost.
    """
    rows_of = {table: rows for table, rows in rows_of.items() if rows}
    if connection.dialect.name == "sqlite":
        for table, rows in rows_of.items():
            connection.execute(_upsert("sqlite", table, tuple(rows[0])), list(rows))
    elif rows_of:
        shape = tuple((table, tuple(rows[0])) for table, rows in rows_of.items())
        arrays = {
            f"{place}_{name}": _array(table.c[name], [row[name] for row in rows_of[table]])
            for place, (table, names) in enumerate(shape)
            for name in names
        }
        connection.execute(_upserts_of_arrays(shape), arrays)


def _upsert(dialect: str, table: sqlalchemy.Table, names: Sequence[str], source: Any = None) -> Any:
    (unique,) = (rule for rule in table.constraints if isinstance(rule, sqlalchemy.UniqueConstraint))
    key = unique.columns.keys()
    statement = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)  # the others' are unused
    changed = {name: statement.excluded[name] for name in names if name not in key}
    if source is not None:
        statement = statement.from_select(names, source)
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


@functools.lru_cache(maxsize=128)
def _upserts_of_arrays(shape: tuple[tuple[sqlalchemy.Table, tuple[str, ...]], ...]) -> Any:
    """Return one statement for a server: all upserts but the last are parts of its ``WITH``."""
    upserts = []
    for place, (table, names) in enumerate(shape):
        types = {name: sqlalchemy.ARRAY(table.c[name].type) for name in names}
        arrays = (
            sqlalchemy.cast(sqlalchemy.bindparam(f"{place}_{name}", type_=types[name]), types[name]) for name in names
        )
        rows = sqlalchemy.func.unnest(*arrays).table_valued(*names).render_derived()
        upserts.append(_upsert("postgresql", table, names, sqlalchemy.select(rows)))
    *others, last = upserts
    return last.add_cte(*(upsert.cte(f"upsert_{place}") for place, upsert in enumerate(others)))


def _array(column: sqlalchemy.Column[Any], values: list[Any]) -> list[Any]:
    """Return values of one type, as an array has them: a categorical parameter's value is an integer."""
    if isinstance(column.type, sqlalchemy.Float):
        return [None if value is None else float(value) for value in values]
    return values


def among(
    connection: sqlalchemy.Connection, column: sqlalchemy.ColumnElement[int], ids: Collection[int]
) -> sqlalchemy.ColumnElement[bool]:
    """Return the condition that a column has one of some ids.

    A server gets them as one array: the statement is the same for any number of them, so that it is parsed once.
    """
    if connection.dialect.name == "sqlite":
        return column.in_(sorted(ids))
    return column == sqlalchemy.any_(sqlalchemy.literal(sorted(ids), sqlalchemy.ARRAY(sqlalchemy.Integer)))


@contextlib.contextmanager
def transaction(engine: sqlalchemy.Engine) -> Iterator[sqlalchemy.Connection]:
    """Open a transaction that commits at the end of the block.

    Raises:
        StorageInternalError: Optuna's word for a database that is locked, full or gone.
    """
    with _outages_as_optunas(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: sqlalchemy.Engine) -> Iterator[sqlalchemy.Connection]:
    """Connect to read alone; raises as ``transaction`` does.

    Each statement sees what was committed before it, as in a transaction on either database, but a server is spared
    the transaction's begin and end.
    """
    with _outages_as_optunas(), engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


@contextlib.contextmanager
def _outages_as_optunas() -> Iterator[None]:
    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StorageInternalError(f"The study's database failed: {reason_of(error)}") from error


def describe_outage(error: StorageInternalError) -> str:
    """Return what the database said; Optuna says "An exception is raised during the commit", whatever happened."""
    return reason_of(error.__cause__ or error)


def explain_outage(error: StorageInternalError) -> str:
    """Return what is wrong with the study's database and the way out, as sentences, whether one reads or writes."""
    reason = describe_outage(error)
    match _sqlite_code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return f"The study's database is damaged ({reason}). {DAMAGED_WAY_OUT}"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return (
                f"The study's database cannot be written ({reason}). "
                "Make the file and its directory writable for this user."
            )
        case sqlite3.SQLITE_FULL:
            return f"The study's database cannot be written ({reason}). Make room, then run the same command again."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                f"Another program keeps the study's database locked ({reason}). "
                "Let it finish, then run the same command again."
            )
    return f"The study's database cannot be used ({reason}). Mend the cause, then run the same command again."


def may_pass(error: StorageInternalError) -> bool:
    """Tell whether waiting may help: somebody else has the lock, or the server is out of reach; a full disk stays."""
    code = _sqlite_code(error)
    if code is not None:
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    unreachable = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)
    return isinstance(error.__cause__, unreachable)


def _sqlite_code(error: StorageInternalError) -> int | None:
    """Return SQLite's primary error code, or None for another database's error."""
    original = getattr(error.__cause__, "orig", None)
    if not isinstance(original, sqlite3.Error):
        return None
    return getattr(original, "sqlite_errorcode", 0) & 0xFF  # the higher bits say where, the lowest byte what


def begin_claim(connection: sqlalchemy.Connection, study_id: "int | sqlalchemy.ScalarSelect[int]") -> None:
    """Take the write lock that serialises claims in a study, and the numbering of its trials, until the end.

    SQLite has one write lock for the database and ignores ``FOR UPDATE`` (of 120 waiting trials 9 to 21 were started
    twice by 4 workers); PostgreSQL locks the study's row.
    """
    take_write_lock(connection)
    if connection.dialect.name != "sqlite":
        own_id = optuna_tables().studies.c.study_id
        connection.execute(sqlalchemy.select(own_id).where(own_id == study_id).with_for_update())


def take_write_lock(connection: sqlalchemy.Connection) -> None:
    """Begin a transaction on SQLite with its write lock, so that what it reads stays as it is; a server locks rows."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def utc_now() -> datetime.datetime:
    """Return the time by this host's clock, naive UTC."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def database_now(connection: sqlalchemy.Connection) -> datetime.datetime:
    """Return the time that leases are measured by, and that trials are stamped with, naive UTC as Optuna stores it.

    SQLite serves one host, whose clock is as good as any; a server's clients may disagree, so its own clock decides.
    It stands still during a transaction, so it is asked once.
    """
    if connection.dialect.name == "sqlite":
        return utc_now()
    if _NOW not in connection.get_execution_options():
        note_now(connection, connection.execute(sqlalchemy.select(SERVER_CLOCK)).scalar_one())
    now: datetime.datetime = connection.get_execution_options()[_NOW]
    return now


def note_now(connection: sqlalchemy.Connection, now: datetime.datetime) -> None:
    """Keep what another statement of the transaction has read of `SERVER_CLOCK`, for `database_now`."""
    connection.execution_options(**{_NOW: now})
