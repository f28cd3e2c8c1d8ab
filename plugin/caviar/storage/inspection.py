"""Looking into databases without writing: not a byte in them, and no file beside them that stays."""

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.pool
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from ..errors import StorageError
from .addresses import masked, reason_of, sqlite_path
from .leased_storage import LeasedStorage

#: Seconds to wait for a lock. In WAL mode readers wait for nobody, so who holds one for longer is worth a word.
_PATIENCE_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqliteFacts:
    """What an SQLite file is found to be.

    Attributes:
        tables: Their names.
        journal_mode: As SQLite says it, such as ``wal``; None where it cannot be told without writing.
        faults: What its own check finds wrong, at most five lines; empty for a sound file.
        revision: The version of its schema, as alembic notes it, or None.
    """

    tables: frozenset[str]
    journal_mode: str | None
    faults: tuple[str, ...]
    revision: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemaVersions:
    """A database's schema, the installed Optuna's, and whether that knows the former, and so can upgrade it."""

    current: str
    head: str
    known: bool


def read_sqlite_facts(path: Path) -> SqliteFacts:
    """Return what an SQLite file is, after SQLite's own quick check.

    Raises:
        StorageError: If it cannot be read as one, with SQLite's reason.
    """
    try:
        with contextlib.closing(connect_read_only(path)) as connection:
            # First of all: on a damaged file any other statement may raise instead of saying what is wrong.
            lines = [str(line) for (line,) in connection.execute("PRAGMA quick_check(5)")]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            revision = None
            if "alembic_version" in tables:
                revision = (connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,))[0]
            immutable = _access(path).startswith("immutable")
    except sqlite3.Error as error:
        raise StorageError(str(error)) from error
    return SqliteFacts(
        tables=frozenset(tables),
        journal_mode=None if immutable else str(mode),  # an immutable file has no journal, whatever its header says
        faults=() if lines == ["ok"] else tuple(lines),
        revision=revision,
    )


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open an SQLite file so that nothing is written; raises ``sqlite3.Error``."""
    # The engine that shares this connection may close it in another thread, at the interpreter's end.
    address = f"{path.as_uri()}?{_access(path)}"
    connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE_S, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection


@contextlib.contextmanager
def reading_storage(url: str) -> Iterator[LeasedStorage]:
    """Open Optuna's database for reading; its schema must be the installed Optuna's (`read_schema_versions`).

    Raises:
        StorageError: If it cannot be opened, or what the block reads of it cannot be.
    """
    with _saying_why(url):
        storage = LeasedStorage(url, owner="", engine_kwargs=_engine_kwargs(url), skip_table_creation=True)
        try:
            yield storage
        finally:
            storage.close()


def read_schema_versions(url: str) -> SchemaVersions | None:
    """Return an Optuna database's schema against the installed Optuna's, or None for a database without its tables.

    Raises:
        StorageError: If it cannot be opened.
    """
    with _saying_why(url):
        if not _has_tables(url):
            return None
        storage = RDBStorage(
            url, engine_kwargs=_engine_kwargs(url), skip_compatibility_check=True, skip_table_creation=True
        )
        try:
            current, head = storage.get_current_version(), storage.get_head_version()
            return SchemaVersions(current=current, head=head, known=current in storage.get_all_versions())
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _has_tables(url: str) -> bool:
    engine = sqlalchemy.create_engine(url, **_engine_kwargs(url))
    try:
        return {"studies", "trials", "version_info"} <= set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _engine_kwargs(url: str) -> dict[str, Any]:
    path = sqlite_path(url)
    if path is None:
        return {"poolclass": sqlalchemy.pool.NullPool}
    # One connection for all: the last one of several might be one that does not clean up behind itself.
    return {"creator": lambda: connect_read_only(path), "poolclass": sqlalchemy.pool.StaticPool}


def _access(path: Path) -> str:
    """Return how to open a file so that nothing is written, in the terms of SQLite's addresses (sqlite.org/uri.html).

    Merely reading a database in WAL mode makes a log and its index beside it. A connection that could write removes
    both when it is the last one; one with ``mode=ro`` leaves them. Where there is a log already, somebody has the
    database open or was killed: there ``mode=ro`` leaves the log as it is, and the other one would copy it into the
    database. Where neither can be made, the file is read as it stands.
    """
    if any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal")):
        return "mode=ro"
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"
    return "immutable=1&mode=ro"


@contextlib.contextmanager
def _saying_why(url: str) -> Iterator[None]:
    import alembic.util  # takes half a second, and only who inspects a database needs it

    try:
        yield
    except (
        *(sqlalchemy.exc.SQLAlchemyError, StorageInternalError, alembic.util.CommandError),
        *(AssertionError, ImportError, RuntimeError, ValueError),  # Optuna's, of databases that are not quite its own
    ) as error:
        raise StorageError(f"The storage {masked(url)} cannot be read: {reason_of(error)}.") from error
