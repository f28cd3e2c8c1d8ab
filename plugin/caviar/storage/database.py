"""Opening Optuna's database: created once under a lock, checked before it is trusted, tuned where it is SQLite."""

import os
import secrets
import socket
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.exc

from ..errors import StorageError
from .home import file_lock, sqlite_path
from .leased_storage import LeasedStorage

#: Seconds that a statement waits for SQLite's write lock, which others hold for milliseconds.
BUSY_TIMEOUT_S = 60.0


def new_owner() -> str:
    """Return a name for this worker that no other has: ``host:pid:token``."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def database_exists(url: str) -> bool:
    """Tell whether there is a database to open; a server's always counts as one."""
    path = sqlite_path(url)
    return path is None or path.exists()


def open_storage(url: str, *, owner: str, create: bool = False) -> LeasedStorage:
    """Open Optuna's database.

    Args:
        url: SQLAlchemy's address: ``sqlite:///FILE`` or ``postgresql+psycopg://…``.
        owner: What names this worker.
        create: Whether a missing database is created. Workers that open a fresh one at once crash in Optuna, so this
            happens under a file lock, and a parent does it before it starts its workers.

    Raises:
        StorageError: If it is missing, cannot be opened, or holds something else.
    """
    backend = url.split("://")[0].split("+")[0]
    if backend == "sqlite":
        path = sqlite_path(url)
        if path is None:
            raise StorageError(f"{url} keeps nothing: a study needs a file, sqlite:///runs/optuna.db for instance.")
        return _open_sqlite(url, path, owner=owner, create=create)
    if backend not in ("postgresql", "postgres"):
        raise StorageError(
            f"A study's storage is SQLite or PostgreSQL, but got {_masked(url)}. "
            "Name a file, sqlite:///runs/optuna.db, or a server, postgresql+psycopg://user@host/database."
        )
    return _open(url, owner=owner, engine_kwargs={"pool_pre_ping": True})


def _open_sqlite(url: str, path: Path, *, owner: str, create: bool) -> LeasedStorage:
    if not path.exists() and not create:
        raise StorageError(f"There is no study database at {path}. `caviar run STUDY.toml` creates one.")
    if path.exists() and path.stat().st_size:
        _check_is_optunas(path)
        return _open(url, owner=owner, engine_kwargs=_sqlite_engine_kwargs())
    if not create:
        raise StorageError(f"The study database {path} is empty. `caviar run STUDY.toml` fills it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_name(path.name + ".lock")):
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
            return _open(url, owner=owner, engine_kwargs=_sqlite_engine_kwargs())
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"The study database {path} cannot be created: {error}. Name another --home.") from error


def _open(url: str, *, owner: str, engine_kwargs: dict[str, Any]) -> LeasedStorage:
    try:
        storage = LeasedStorage(url, owner=owner, engine_kwargs=engine_kwargs)
    except ImportError as error:
        raise StorageError(
            f"The driver for {_masked(url)} is not installed: {error}. For PostgreSQL: pip install 'psycopg[binary]'."
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StorageError(f"The storage {_masked(url)} cannot be opened: {reason}.") from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StorageError(f"The storage {_masked(url)} has another version's tables. {error}") from error
    if storage.engine.dialect.name == "sqlite":
        sqlalchemy.event.listen(storage.engine, "connect", _tune_sqlite)
        storage.engine.dispose()
    return storage


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """With the write-ahead log, NORMAL loses no commit when a process dies, only the last ones when the power does."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _sqlite_engine_kwargs() -> dict[str, Any]:
    return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}


def _check_is_optunas(path: Path) -> None:
    """Look into a file through SQLite alone.

    Opening it by other means, to read its first bytes say, and closing it again would drop the locks that this process
    holds on it through SQLite, and another process could then delete a log that is in use (sqlite.org/howtocorrupt).
    """
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            message = f"{path} is not an SQLite database. Name another file with --storage or --home."
            raise StorageError(message) from error
        raise StorageError(f"The study database {path} cannot be read: {error}.") from error
    if "experiments" in tables:
        raise StorageError(
            f"{path} holds MLflow's tables: Optuna and MLflow cannot share a file. Give --storage a file of its own."
        )
    if tables and not {"studies", "trials", "version_info"} <= tables:
        raise StorageError(
            f"{path} is a database of something else (its tables: {', '.join(sorted(tables)[:5])}). "
            "Name another file with --storage or --home."
        )


def _masked(url: str) -> str:
    """Return an address without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url.split("://")[0] + "://…"
