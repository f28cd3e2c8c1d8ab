"""Mending an SQLite database: its journal mode, its schema, and the copy that is made before."""

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from ..atomic_write import written_whole
from ..errors import StorageError
from ..storage.addresses import masked, sqlite_path
from ..storage.database import BUSY_TIMEOUT_S

#: Seconds to wait for those who use a database whose journal mode is to change: all of them must be gone.
_PATIENCE_S = 10.0


def switch_to_wal(path: Path) -> None:
    """Put an SQLite database in WAL mode, in which readers and the one writer do not wait for each other.

    Raises:
        StorageError: If it stays as it is, because somebody uses it or it cannot be written.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE_S)
        ) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.Error as error:
        raise StorageError(f"It could not be switched: {error}.") from error
    if mode != "wal":
        raise StorageError(f"It could not be switched: SQLite keeps it in {mode!r} mode.")


def back_up_sqlite(path: Path, *, label: str) -> Path:
    """Copy an SQLite database beside itself, consistent even while others write to it.

    Args:
        path: The database.
        label: What the copy's name says of it, such as its schema's version.

    Returns:
        The copy, ``NAME.LABEL.bak``; one that is there already is kept, and the new one numbered.

    Raises:
        StorageError: If it cannot be made; nothing is left of it then.
    """
    copy, number = path.with_name(f"{path.name}.{label}.bak"), 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.{label}.{number}.bak")
    try:
        with (
            written_whole(copy) as beside,
            contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as source,
            contextlib.closing(sqlite3.connect(beside)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # the copy is one file, without a log of its own
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"The backup copy {copy} could not be made: {error}.") from error
    return copy


def upgrade_optuna_schema(url: str, *, label: str) -> Path | None:
    """Bring an Optuna database to the installed Optuna's schema, an SQLite one after a copy is made of it.

    Args:
        url: The database's address.
        label: For the copy's name.

    Returns:
        The copy, or None for a server's database, whose backups are its own.

    Raises:
        StorageError: If the copy or the upgrade fails.
    """
    path = sqlite_path(url)
    copy = None if path is None else back_up_sqlite(path, label=label)
    try:
        storage = RDBStorage(url, skip_compatibility_check=True)
        try:
            storage.upgrade()
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        kept = f" What was there before is in {copy}." if copy else ""
        raise StorageError(f"Upgrading {masked(url)} failed: {reason}.{kept}") from error
    return copy
