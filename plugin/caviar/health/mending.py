"""Mending what doctor finds: a database's journal mode, its schema, and what MLflow lacks of a study."""

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
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..worker.mirroring import fill_trials, mirroring_of
from ..worker.opening import open_mirror

#: Seconds to wait for those who use a database whose journal mode is to change: all of them must be gone.
_PATIENCE_S = 10.0


def switch_to_wal(path: Path) -> None:
    """Put an SQLite database in WAL mode, in which readers and the one writer do not wait for each other.

    Raises:
        StorageError: If it stays as it is, because somebody uses it or it cannot be written.
    """
    try:
        with _connected(path, timeout_s=_PATIENCE_S) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.Error as error:
        raise StorageError(f"It could not be switched: {error}.") from error
    if mode != "wal":
        raise StorageError(f"It could not be switched: SQLite keeps it in {mode!r} mode.")


def upgrade_optuna_schema(url: str, *, label: str) -> None:
    """Bring an Optuna database to the installed Optuna's schema; of an SQLite one, make a copy first.

    The copy is called ``NAME.LABEL.bak``. A server's database has backups of its own.

    Raises:
        StorageError: If the copy or the upgrade fails.
    """
    path = sqlite_path(url)
    kept = "" if path is None else f" What was there before is in {_back_up(path, label=label)}."
    try:
        storage = RDBStorage(url, skip_compatibility_check=True)
        try:
            storage.upgrade()
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StorageError(f"Upgrading {masked(url)} failed: {reason}.{kept}") from error


def sync_study(home: Home, study: str) -> tuple[int, int]:
    """Record in MLflow all that it lacks of a study's trials; a second call changes nothing.

    Return how many trials' runs lacked something, and how many could not be recorded, because MLflow is down or refuses
    them.
    """
    storage, opened = open_existing(home, study)
    try:
        spec = required_spec(opened)
        mirror = open_mirror(home, opened, spec)
        return fill_trials(mirror, opened.get_trials(deepcopy=False), mirroring_of(opened, spec))
    finally:
        storage.close()


def _back_up(path: Path, *, label: str) -> Path:
    """Copy an SQLite database beside itself, consistent even while others write; an earlier copy is kept."""
    copy, number = path.with_name(f"{path.name}.{label}.bak"), 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.{label}.{number}.bak")
    try:
        with (
            written_whole(copy) as beside,
            _connected(path, timeout_s=BUSY_TIMEOUT_S) as source,
            contextlib.closing(sqlite3.connect(beside)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # the copy is one file, without a log of its own
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"The backup copy {copy} could not be made: {error}.") from error
    return copy


def _connected(path: Path, *, timeout_s: float) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout_s))
