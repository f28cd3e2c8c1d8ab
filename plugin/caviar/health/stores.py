"""Check what studies stand on: the home's directory and disks, Optuna's storage and MLflow's store."""

import functools
import shlex
import shutil
from collections.abc import Collection
from pathlib import Path

from ..atomic_write import leftovers
from ..errors import StorageError
from ..record.inspection import read_run_statuses
from ..record.mlflow_private import mlflow_revisions
from ..storage.addresses import masked, sqlite_path
from ..storage.filesystems import (
    Mounts,
    can_be_written,
    nearest_existing,
    network_file_system,
    network_message,
    room_at,
)
from ..storage.home import Home, shared_file, unusable_directories
from ..storage.inspection import SqliteFacts, read_schema_versions, read_sqlite_facts
from ..storage.places import check_reachable
from ..user_cache import user_cache
from .findings import Findings
from .mending import switch_to_wal, upgrade_optuna_schema

#: Below this a disk counts as nearly full. A study of 5,000 trials takes some 100 MB in both databases; their logs,
#: the checkpoints and the copy made before an upgrade take as much again.
MIN_FREE_BYTES = 500 * 10**6
#: With room for fewer new files than this a disk is nearly full too: every checkpoint and every artifact is one.
MIN_FREE_FILES = 1000

_OPTUNA_TABLES = frozenset({"studies", "trials", "version_info"})
_MLFLOW_TABLES = frozenset({"experiments", "runs"})


def check_disks(home: Home, found: Findings, *, mounts: Mounts | None, min_free_bytes: int) -> None:
    """Check the home's directory, and every file system that something is written to."""
    if not home.path.exists():
        found.add("no_home", home.path)
    if not (can_be_written(home.path) and nearest_existing(home.path).is_dir()):
        found.add("not_writable", home.path, what="The home directory")
    for path in unusable_directories(home):
        found.add("not_writable", path, what="What stands in the place of a directory of the home")
    files = _sqlite_files(home)
    seen: set[int] = set()
    elsewhere = [home.files] if isinstance(home.files, Path) else []
    for place in dict.fromkeys((home.path, *elsewhere, *(path.parent for path in files))):
        try:
            room = room_at(place)
        except OSError as error:
            found.add("space_unknown", place, reason=error.strerror)
            continue
        if room.device in seen:
            continue
        seen.add(room.device)
        free, needed = _size(room.free_bytes), _size(min_free_bytes)
        if room.free_bytes < min_free_bytes:
            found.add("disk_full", place, free_bytes=room.free_bytes, free=free, needed=needed)
        elif room.free_files is not None and room.free_files < MIN_FREE_FILES:
            found.add("files_full", place, free_files=room.free_files, free=free, needed=needed)
    for path in dict.fromkeys(files):
        kind = network_file_system(path, mounts=mounts)
        if kind is not None:
            message, _, remedy = network_message(path, kind).partition(". ")
            found.add("network_disk", path, message=f"{message}.", remedy=remedy)


def check_files(home: Home, found: Findings) -> bool:
    """Check where the files stand, if not in the home, and tell whether they can be read."""
    subject = str(home.files)
    try:
        check_reachable(home.files)
    except StorageError as error:
        return found.add("files_unusable", subject, reason=error)
    if isinstance(home.files, Path):
        if home.files != home.path and not can_be_written(home.files):
            found.add("files_unwritable", subject)
        return True
    try:
        if not home.files.names():
            found.add("no_files", subject)
    except OSError as error:
        return found.add("files_unreachable", subject, reason=error.strerror)
    return True


def check_leftovers(home: Home, found: Findings) -> None:
    """Check the home and the user's cache for what killed processes left of the files that they were writing."""
    flat = dict.fromkeys([home.path, *(path.parent for path in _sqlite_files(home))])
    places = (home.checkpoints, home.networks, home.reports, home.timings, user_cache())
    deep = [place for place in places if isinstance(place, Path)]
    left = [path for place in flat for path in leftovers(place)]
    left += [path for place in deep for path in leftovers(place, below=True)]
    if left:
        facts = {"count": len(left), "s": "" if len(left) == 1 else "s"}
        paths = ", ".join(map(str, left[:3])) + (", …" if len(left) > 3 else "")
        found.add("leftovers", home.path, mend=lambda: list(map(shutil.rmtree, left)), paths=paths, **facts)


def check_storage(home: Home, study: str | None, found: Findings, *, mounts: Mounts | None) -> bool:
    """Check Optuna's database, and tell whether studies can be read from it."""
    shared = shared_file(home)
    if shared is not None:
        found.add("shared_file", shared, option="--storage and --tracking-uri")
    path = sqlite_path(home.storage)
    if path is not None:
        facts = _check_file(found, study, path, what="The study database")
        if facts is None or not facts.tables:
            return False
        is_optunas = facts.tables >= _OPTUNA_TABLES
        if shared is None and "experiments" in facts.tables:
            option = "--storage and --tracking-uri" if "studies" in facts.tables else "--storage"
            found.add("shared_file", path, option=option)
        elif shared is None and not is_optunas:
            found.add("foreign_file", path, tables=_first(facts.tables), option="--storage")
        if not is_optunas:
            return False
        _check_journal(found, path, facts, mounts=mounts)
    subject = masked(home.storage)
    try:
        versions = read_schema_versions(home.storage)
    except StorageError as error:
        found.add("storage_unreachable", subject, reason=error)
        return False
    if versions is None:
        _no_database(found, study, subject)
        return False
    current, head = versions.current, versions.head
    if current == head:
        return True
    if not versions.known:
        return found.add("optuna_newer", subject, current=current, head=head)
    upgrade = functools.partial(upgrade_optuna_schema, home.storage, label=current)
    return found.add("optuna_older", subject, mend=upgrade, current=current, head=head)


def check_tracking(home: Home, study: str | None, found: Findings, *, mounts: Mounts | None) -> bool:
    """Check MLflow's store, and tell whether it can be read."""
    subject = masked(home.tracking_uri)
    path = sqlite_path(home.tracking_uri)
    if path is None:
        try:
            read_run_statuses(home.tracking_uri, study_name="caviar doctor", study_uid="")
        except StorageError as error:
            return found.add("mlflow_unreachable", subject, reason=error)
        return True
    if shared_file(home) is not None:
        return False
    if not path.exists() or path.stat().st_size == 0:
        return True  # no trials are shown there, which is said where there are some
    facts = _check_file(found, study, path, what="MLflow's database")
    if facts is None:
        return False
    if {"studies", "trials"} <= facts.tables:
        option = "--storage and --tracking-uri" if "experiments" in facts.tables else "--tracking-uri"
        return found.add("shared_file", path, option=option)
    if facts.tables and not facts.tables >= _MLFLOW_TABLES:
        return found.add("foreign_file", path, tables=_first(facts.tables), option="--tracking-uri")
    _check_journal(found, path, facts, mounts=mounts)
    revisions = mlflow_revisions()
    if revisions is None or facts.revision in (None, revisions[0]):
        return True
    head, known = revisions
    kind = "mlflow_older" if facts.revision in known else "mlflow_newer"
    return found.add(kind, path, current=facts.revision, head=head, uri=shlex.quote(masked(home.tracking_uri)))


def _sqlite_files(home: Home) -> list[Path]:
    paths = (sqlite_path(home.storage), sqlite_path(home.tracking_uri))
    return [path for path in paths if path is not None]


def _no_database(found: Findings, study: str | None, subject: object) -> None:
    found.add("no_database" if study is None else "no_database_of_study", subject, study=study)


def _check_file(found: Findings, study: str | None, path: Path, *, what: str) -> SqliteFacts | None:
    """Check an SQLite file; None where it cannot be read."""
    if not path.exists() or path.stat().st_size == 0:
        _no_database(found, study, path)
        return None
    beside = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    for file in (*(file for file in beside if file.exists()), path.parent):
        if not can_be_written(file):
            found.add("not_writable", file, what=what)
    try:
        facts = read_sqlite_facts(path)
    except StorageError as error:
        found.add("locked" if "locked" in str(error) else "unreadable", path, reason=error, name=path.name)
        return None
    if facts.faults:
        found.add("damaged", path, reason="; ".join(facts.faults), name=path.name)
        return None
    return facts


def _check_journal(found: Findings, path: Path, facts: SqliteFacts, *, mounts: Mounts | None) -> None:
    is_local = network_file_system(path, mounts=mounts) is None  # WAL needs memory that hosts do not share
    if is_local and facts.journal_mode not in (None, "wal"):
        found.add("not_wal", path, mend=lambda: switch_to_wal(path), mode=facts.journal_mode)


def _first(tables: Collection[str]) -> str:
    return ", ".join(sorted(tables)[:5])


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 10**9 else f"{n_bytes / 1e6:.0f} MB"
