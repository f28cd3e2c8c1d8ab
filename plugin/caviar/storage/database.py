"""Opening Optuna's database: created once under a lock, checked before it is trusted, tuned where it is SQLite."""

import contextlib
import logging
import os
import secrets
import socket
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy
import sqlalchemy.exc
from filelock import FileLock

from ..errors import StorageError
from ..optuna_private import optuna_tables
from ..user_cache import sources_digest
from . import schema
from .addresses import masked, reason_of, sqlite_path, sqlite_url
from .connecting import TAKE_LOCK, check_idle_connections, connection_options
from .filesystems import network_file_system, network_message
from .leased_storage import LeasedStorage
from .templates import create_from_template, keep_template

_logger = logging.getLogger(__name__)

#: Seconds that a statement waits for SQLite's write lock, which others hold for milliseconds. An address may say
#: otherwise: ``sqlite:///runs/optuna.db?timeout=5``.
BUSY_TIMEOUT_S = 60.0
_BESIDE: Final = "SQLite makes files beside it to read it: make its directory writable for this user, or copy the home."


def new_owner() -> str:
    """Return a name for this worker that no other has: ``host:pid:token``."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def database_exists(url: str) -> bool:
    """Tell whether there is a database to open; a server's always counts as one."""
    path = sqlite_path(url)
    return path is None or path.exists()


def open_storage(url: str, *, owner: str, create: bool = False, checked: bool = False) -> LeasedStorage:
    """Open Optuna's database.

    Args:
        url: SQLAlchemy's address: ``sqlite:///FILE`` or ``postgresql+psycopg://…``.
        owner: What names this worker.
        create: Whether a missing database is created. Processes that create one at once crash in Optuna, so this
            happens under a lock, and an SQLite file appears with all its tables or not at all.
        checked: Whether the caller knows that the tables are there and of this Optuna's version, as a run's workers do:
            to compare them takes longer than all else.

    Raises:
        StorageError: If it is missing, cannot be opened, or holds something else.
    """
    backend = url.split("://")[0].split("+")[0]
    if backend == "sqlite":
        path = sqlite_path(url)
        if path is None:
            raise StorageError(f"{masked(url)} keeps nothing: a study needs a file, such as sqlite:///runs/optuna.db.")
        if create and (kind := network_file_system(path)):  # the run's own opening, not that of each of its workers
            _logger.warning("%s", network_message(path, kind))
        return _open_sqlite(url, path, owner=owner, create=create, checked=checked)
    if backend not in ("postgresql", "postgres"):
        raise StorageError(
            f"A study's storage is SQLite or PostgreSQL, but got {masked(url)}. "
            "Name a file, sqlite:///runs/optuna.db, or a server, postgresql+psycopg://user@host/database."
        )
    if checked:
        return _open(url, owner=owner, has_tables=True, checked=True)
    with _explained(url), _connected(url) as connection:
        has_tables = _has_tables(connection)
        if not has_tables:  # whoever comes first makes them
            connection.execute(sqlalchemy.text(TAKE_LOCK))
        return _open(url, owner=owner, has_tables=has_tables)


def prepare_storage_template(url: str) -> None:
    """Make what a missing SQLite database is copied from, and import what opening one needs: a third of a second."""
    path = sqlite_path(url)
    if path is not None and not _has_content(path):
        keep_template(_template_name(), _make_sqlite)
    import_database_code(url)


def import_database_code(url: str) -> None:
    """Import what Optuna imports when it opens a database, its driver included: a fifth of a second."""
    import_module("alembic.command")
    optuna_tables()
    with contextlib.suppress(ImportError, sqlalchemy.exc.SQLAlchemyError):  # who opens it will say so
        sqlalchemy.make_url(url).get_dialect().import_dbapi()


def is_out_of_reach(error: StorageError) -> bool:
    """Tell whether what ``open_storage`` raised may pass: the server does not answer, or the file is locked."""
    return isinstance(error.__cause__, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError))


@contextlib.contextmanager
def creation_lock(storage: LeasedStorage) -> Iterator[None]:
    """Hold the lock under which studies are created, across all processes that use the database."""
    url = storage.engine.url.render_as_string(hide_password=False)
    path = sqlite_path(url)
    if path is not None:
        with FileLock(f"{path}.lock"):
            yield
    else:
        with _connected(url) as connection:
            connection.execute(sqlalchemy.text(TAKE_LOCK))
            yield


def _open_sqlite(url: str, path: Path, *, owner: str, create: bool, checked: bool) -> LeasedStorage:
    if not path.exists() and not create:
        raise StorageError(f"There is no study database at {path}. `caviar run STUDY.toml` creates one.")
    if not _has_content(path):
        if not create:
            raise StorageError(f"The study database {path} is empty. `caviar run STUDY.toml` fills it.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not _has_content(path):
                    create_from_template(path, _template_name(), _make_sqlite)
                    checked = True  # this version of Optuna made it
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"The study database {path} cannot be created: {error}. Name another --home.") from error
    has_tables = _optunas_tables(path) >= set(optuna_tables().studies.metadata.tables)
    return _open(url, owner=owner, has_tables=has_tables, checked=checked)


def _template_name() -> str:
    return f"optuna-{optuna.__version__}-{sqlalchemy.__version__}-{sources_digest('storage')}.db"


def _make_sqlite(path: Path) -> None:
    """Make an empty study database; closing its last connection moves the log into the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    _open(sqlite_url(path), owner=new_owner()).engine.dispose()


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextlib.contextmanager
def _connected(url: str) -> Iterator[sqlalchemy.Connection]:
    """Connect to a PostgreSQL server, which keeps a lock for as long as the connection lives."""
    options = connection_options(sqlalchemy.make_url(url))
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, connect_args=options)
    with engine.connect() as connection:
        yield connection


def _has_tables(connection: sqlalchemy.Connection) -> bool:
    """Whether all of Optuna's tables are there: the version of their schema is written last; MLflow has one too."""
    version, inspector = sqlalchemy.table("alembic_version"), sqlalchemy.inspect(connection)
    if not (inspector.has_table("studies") and inspector.has_table(version.name)):
        return False
    return connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(version)).scalar_one() > 0


def _open(url: str, *, owner: str, has_tables: bool = False, checked: bool = False) -> LeasedStorage:
    with _explained(url):
        address = sqlalchemy.engine.make_url(url)
        options: dict[str, Any] = {"connect_args": connection_options(address)}
        if address.get_backend_name() == "sqlite":
            options = {} if "timeout" in address.query else {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
        storage = LeasedStorage(
            url,
            owner=owner,
            engine_kwargs=options,
            skip_table_creation=has_tables,
            skip_compatibility_check=checked,
        )
    if storage.engine.dialect.name == "sqlite":
        sqlalchemy.event.listen(storage.engine, "connect", _tune_sqlite)
        storage.engine.dispose()
    else:
        check_idle_connections(storage.engine)
    return storage


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what opening a database may raise into words for the user."""
    try:
        yield
    except ImportError as error:
        raise StorageError(
            f"The driver for {masked(url)} is not installed: {error}. "
            "For PostgreSQL: pip install 'optuna-caviar[postgresql]'."
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StorageError(f"The storage {masked(url)} cannot be opened: {reason_of(error)}.") from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StorageError(f"The storage {masked(url)} has another version's tables. {error}") from error


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """With the write-ahead log, NORMAL loses no commit when a process dies, only the last ones when the power does."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _optunas_tables(path: Path) -> set[str]:
    """Look into a file through SQLite alone, and return its tables' names if they are Optuna's or none.

    Opening it by other means, to read its first bytes say, and closing it again would drop the locks that this process
    holds on it through SQLite, and another process could then delete a log that is in use (sqlite.org/howtocorrupt).
    """
    try:
        address = f"{path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            message = f"{path} is not an SQLite database. Name another file with --storage or --home."
            raise StorageError(message) from error
        ways_out = {sqlite3.SQLITE_CORRUPT: schema.DAMAGED_WAY_OUT}
        ways_out |= dict.fromkeys((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN), _BESIDE)
        way_out = ways_out.get(error.sqlite_errorcode & 0xFF, "")  # the lowest byte says what, the higher ones where
        raise StorageError(f"The study database {path} cannot be read ({error}). {way_out}".rstrip()) from error
    if "experiments" in tables:
        raise StorageError(
            f"{path} holds MLflow's tables: Optuna and MLflow cannot share a file. Give --storage a file of its own."
        )
    if tables and not {"studies", "trials", "version_info"} <= tables:
        raise StorageError(
            f"{path} is a database of something else (its tables: {', '.join(sorted(tables)[:5])}). "
            "Name another file with --storage or --home."
        )
    return tables
