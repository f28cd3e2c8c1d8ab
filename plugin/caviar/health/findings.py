"""What `caviar doctor` can find: a table of what each finding means and what to do about it."""

import dataclasses
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from ..errors import CaviarError

_ENVIRONMENTS_FAULTS = (CaviarError, OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, StorageInternalError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, about its ``subject``: a file, a directory, an address or a study."""

    subject: str
    severity: Literal["problem", "note"]
    message: str
    remedy: str
    fixable: bool = False
    fixed: bool = False


_HAND_BACK: Final = "--fix hands them back at once; so does the next worker: `caviar run` or `caviar worker`."
_RESTORE: Final = (
    "Stop every worker and restore a backup, or save what can be read into a new file: "
    "sqlite3 {name} .recover | sqlite3 NEW.db"
)
_CREATE: Final = "`caviar run STUDY.toml` creates it; --home or --storage names another."
_FREE: Final = "Free at least {needed}, or name another place with --home and --storage."

#: What you should know, but what loses, hides or stops nothing; every other finding is a problem.
_NOTES: Final = frozenset(
    {"no_home", "leftovers", "no_files", "no_database", "foreign_study", "other_versions", "old_checkpoints"}
)

#: Every finding by its name: what is wrong, and what to do about it. `Findings.add` fills in the texts.
_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    # The home and its disks
    "no_home": (
        "There is no home directory here yet.",
        "`caviar run STUDY.toml` creates it; --home or CAVIAR_HOME names another.",
    ),
    "not_writable": (
        "{what} cannot be written.",
        "Make it writable for this user, or name another with --home or --storage.",
    ),
    "space_unknown": ("Its free space cannot be read: {reason}.", "Check the disk."),
    "disk_full": ("The disk is nearly full: {free_bytes} bytes ({free}) are free.", _FREE),
    "files_full": ("The disk is nearly full: only {free_files} more files can be created ({free}).", _FREE),
    "leftovers": (
        "Killed processes left {count} unfinished file{s} behind, which only take space: {paths}.",
        "--fix removes them; so does the next file that is written there.",
    ),
    "no_files": (
        "There are no files in this store yet.",
        "`caviar run STUDY.toml` writes there; --files names another.",
    ),
    "files_unusable": ("{reason}", "Until then, checkpoints and networks cannot be looked at."),
    "files_unwritable": ("Checkpoints cannot be written there.", "Make it writable for this user, or correct --files."),
    "files_unreachable": (
        "The store of the files cannot be read: {reason}.",
        "Trials go on without checkpoints. Correct --files, or see that the store runs and lets this user in.",
    ),
    "network_disk": ("{message}", "{remedy}"),
    # Any SQLite file
    "locked": (
        "Another program has held the database locked for seconds ({reason}).",
        "Find it (lsof FILE or fuser FILE) and let it finish; workers wait up to a minute.",
    ),
    "unreadable": ("SQLite cannot read it: {reason}.", _RESTORE),
    "damaged": ("SQLite's check finds it damaged: {reason}.", _RESTORE),
    "not_wal": (
        "The database is in {mode!r} mode, in which readers and writers wait for each other.",
        "--fix switches it to WAL while nobody uses it.",
    ),
    "shared_file": (
        "Optuna and MLflow share this file: each takes the other's tables for its own and breaks them.",
        "Give {option} a file of its own; `caviar sync` fills a new MLflow store from the study.",
    ),
    "foreign_file": (
        "It is a database of something else (its tables: {tables}).",
        "Name another file with {option}, or another --home.",
    ),
    # Optuna's storage
    "no_database": ("There is no study database here.", _CREATE),
    "no_database_of_study": ("There is no study database here, and so no study {study!r}.", _CREATE),
    "storage_unreachable": ("{reason}", "Correct --storage, or check that its server runs and lets this user in."),
    "optuna_newer": (
        "A newer Optuna made its tables ({current}; the one installed here has {head}).",
        "Install that Optuna here: pip install --upgrade optuna-caviar optuna.",
    ),
    "optuna_older": (
        "An older Optuna made its tables ({current}; the one installed here has {head}).",
        "Stop every worker; --fix then upgrades it. It first copies an SQLite file.",
    ),
    # MLflow's store
    "mlflow_unreachable": (
        "MLflow cannot be reached: {reason}.",
        "Trials go on without it. Start it, or correct --tracking-uri; then run `caviar sync`.",
    ),
    "mlflow_newer": (
        "A newer MLflow made its tables ({current}; the one installed here has {head}).",
        "Install that MLflow here, or name another store with --tracking-uri; `caviar sync` fills it.",
    ),
    "mlflow_older": (
        "An older MLflow made its tables ({current}; the one installed here has {head}).",
        "Stop everything that uses it, copy the file, then: mlflow db upgrade {uri}",
    ),
    "runs_unreadable": (
        "MLflow's runs of the study {study!r} cannot be read: {reason}.",
        "Once it can be reached again: `caviar sync {study}`.",
    ),
    # Studies
    "unknown_study": ("There is no such study.", "{hint}"),
    "unreadable_study": (
        "Its stored study file cannot be read: {reason}",
        "Another version of optuna-caviar wrote it: use that one, or run the file with --fresh.",
    ),
    "foreign_study": (
        "It was not made from a study file, so only its storage was checked.",
        "Open it with optuna-dashboard.",
    ),
    "orphans": ("RUNNING, but nobody holds a lease on them: {trials}. The process that ran them is gone.", _HAND_BACK),
    "expired": ("RUNNING, but their worker has been silent for over {lease_s:g} s: {trials}.", _HAND_BACK),
    "other_versions": (
        "It was begun with other versions than are installed here: {changes}.",
        "New trials may differ slightly. To repeat the old ones exactly, install those versions.",
    ),
    "old_checkpoints": (
        "Finished trials left checkpoints behind: {trials}. They only take space.",
        "--fix removes them.",
    ),
    "missing_runs": (
        "MLflow lacks, or shows in another state: {trials}.",
        "--fix fills them in, and so does `caviar sync {study}`.",
    ),
}


class Findings:
    """What one check of a home has found, in order; with ``fix``, a finding is mended at once if that is safe."""

    def __init__(self, *, fix: bool) -> None:
        self.all: list[Finding] = []
        self._fix = fix

    def add(self, kind: str, subject: object, *, mend: Callable[[], object] | None = None, **facts: object) -> bool:
        """Note a finding of the table, with what its texts name; tell whether it has been mended."""
        message, remedy = (text.format(**facts) for text in _TEXTS[kind])
        finding = Finding(
            subject=str(subject),
            severity="note" if kind in _NOTES else "problem",
            message=message,
            remedy=remedy,
            fixable=mend is not None,
        )
        if mend is not None and self._fix:
            try:
                mend()
            except _ENVIRONMENTS_FAULTS as error:
                finding = dataclasses.replace(finding, message=f"{finding.message} It could not be mended: {error}")
            else:
                finding = dataclasses.replace(finding, fixed=True)
        if finding not in self.all:
            self.all.append(finding)
        return finding.fixed


def numbered(numbers: Sequence[int]) -> str:
    """Return trials in words, at most ten by number: ``3 trials (4, 7, 9)``."""
    shown = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
    return f"{len(numbers)} trial{'' if len(numbers) == 1 else 's'} ({shown})"
