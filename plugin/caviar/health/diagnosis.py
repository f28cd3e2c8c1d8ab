"""What is wrong with what a study stands on: pure functions from what was read to findings in plain words."""

import dataclasses
from pathlib import Path
from typing import Literal

from ..storage.filesystems import Room, network_message
from ..storage.inspection import SchemaVersions, SqliteFacts

#: Below this a disk counts as nearly full. One study of 5,000 trials takes some 100 MB in both databases; the logs
#: beside them, two checkpoints a worker and the copy made before an upgrade want as much again, and SQLite and MLflow
#: stop at once where there is nothing left.
MIN_FREE_BYTES = 500 * 10**6
#: Below so many files that may still be created a disk is nearly full too: a checkpoint is one, an artifact is one.
MIN_FREE_FILES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        subject: What it is about: a file, a directory, an address or a study.
        severity: ``problem`` for what loses, hides or stops something; ``note`` for what one should know.
        message: What is wrong, in one or two sentences.
        remedy: What to do about it.
        fixable: Whether ``--fix`` mends it.
        fixed: Whether it has been mended.
    """

    subject: str
    severity: Literal["problem", "note"]
    message: str
    remedy: str
    fixable: bool = False
    fixed: bool = False


def judge_room(path: Path, room: Room, *, min_free_bytes: int) -> Finding | None:
    """Return what is wrong where a disk is nearly full."""
    if room.free_bytes < min_free_bytes:
        message = f"The disk is nearly full: {room.free_bytes} bytes ({_size(room.free_bytes)}) are free."
    elif room.free_files is not None and room.free_files < MIN_FREE_FILES:
        message = (
            f"The disk is nearly full: only {room.free_files} more files can be created ({_size(room.free_bytes)})."
        )
    else:
        return None
    return Finding(
        subject=str(path),
        severity="problem",
        message=message,
        remedy=f"Free at least {_size(min_free_bytes)}, or name another place with --home and --storage.",
    )


def judge_access(path: Path, *, what: str, writable: bool) -> Finding | None:
    """Return what is wrong with a file or directory that cannot be written."""
    if writable:
        return None
    return Finding(
        subject=str(path),
        severity="problem",
        message=f"{what} cannot be written.",
        remedy="Make it writable for this user, or name another with --home or --storage.",
    )


def judge_network(path: Path, kind: str | None) -> Finding | None:
    """Return what is wrong with an SQLite file on a network file system."""
    if kind is None:
        return None
    message, _, remedy = network_message(path, kind).partition(". ")
    return Finding(subject=str(path), severity="problem", message=f"{message}.", remedy=remedy)


def judge_unreadable(path: Path, reason: str) -> Finding:
    """Return what to do about a database that SQLite refuses to read."""
    if "locked" in reason:
        return Finding(
            subject=str(path),
            severity="problem",
            message=f"Another program has held the database locked for seconds ({reason}).",
            remedy="Find it (lsof FILE or fuser FILE) and let it finish; workers wait for a minute meanwhile.",
        )
    return _corrupt(path, f"SQLite cannot read it: {reason}.")


def judge_soundness(path: Path, facts: SqliteFacts) -> Finding | None:
    """Return what SQLite's own check found in a file."""
    return _corrupt(path, f"SQLite's check finds it damaged: {'; '.join(facts.faults)}.") if facts.faults else None


def judge_journal(path: Path, facts: SqliteFacts) -> Finding | None:
    """Return what is wrong with a database in which readers and writers wait for each other."""
    if facts.journal_mode in (None, "wal"):
        return None
    return Finding(
        subject=str(path),
        severity="problem",
        message=f"The database is in {facts.journal_mode!r} mode, in which readers and writers wait for each other.",
        remedy="--fix switches it to WAL while nobody uses it.",
    )


def judge_optuna_tables(path: Path, facts: SqliteFacts) -> Finding | None:
    """Return what is wrong with a file that is not Optuna's own."""
    if "experiments" in facts.tables:
        return _shared(path, "--storage" if "studies" not in facts.tables else "--storage and --tracking-uri")
    if facts.tables and not {"studies", "trials", "version_info"} <= facts.tables:
        return _foreign(path, facts, option="--storage")
    return None


def judge_mlflow_tables(path: Path, facts: SqliteFacts) -> Finding | None:
    """Return what is wrong with a file that is not MLflow's own."""
    if {"studies", "trials"} <= facts.tables:
        return _shared(path, "--tracking-uri" if "experiments" not in facts.tables else "--storage and --tracking-uri")
    if facts.tables and not {"experiments", "runs"} <= facts.tables:
        return _foreign(path, facts, option="--tracking-uri")
    return None


def judge_shared(path: Path) -> Finding:
    """Return what is wrong with one file for both."""
    return _shared(path, "--storage and --tracking-uri")


def judge_optuna_schema(subject: str, versions: SchemaVersions) -> Finding | None:
    """Return what is wrong with an Optuna database whose tables are not those of the installed Optuna."""
    if versions.current == versions.head:
        return None
    if not versions.known:
        return Finding(
            subject=subject,
            severity="problem",
            message=f"A newer Optuna made its tables ({versions.current}; the one installed here has {versions.head}).",
            remedy="Install that Optuna here: pip install --upgrade optuna-caviar optuna.",
        )
    return Finding(
        subject=subject,
        severity="problem",
        message=f"An older Optuna made its tables ({versions.current}; the one installed here has {versions.head}).",
        remedy="Stop every worker; --fix then upgrades it, an SQLite file after a copy is made beside it.",
    )


def judge_mlflow_schema(
    subject: str, revision: str | None, *, head: str, known: frozenset[str], tracking_uri: str
) -> Finding | None:
    """Return what is wrong with an MLflow database whose tables are not those of the installed MLflow."""
    if revision in (None, head):
        return None
    if revision not in known:
        return Finding(
            subject=subject,
            severity="problem",
            message=f"A newer MLflow made its tables ({revision}; the one installed here has {head}).",
            remedy="Install that MLflow here, or name another store with --tracking-uri; `caviar sync` fills it.",
        )
    return Finding(
        subject=subject,
        severity="problem",
        message=f"An older MLflow made its tables ({revision}; the one installed here has {head}).",
        remedy=f"Stop everything that uses it, copy the file, then: mlflow db upgrade {tracking_uri}",
    )


def no_database(subject: str, *, study: str | None) -> Finding:
    """Return what is to be said where there is no study database, when one study, or none by name, was asked about."""
    return Finding(
        subject=subject,
        severity="note" if study is None else "problem",
        message=f"There is no study database here{'' if study is None else f', and so no study {study!r}'}.",
        remedy="`caviar run STUDY.toml` makes it; --home or --storage names another.",
    )


def unreachable_storage(subject: str, reason: str) -> Finding:
    """Return what to do about a storage that cannot be opened."""
    return Finding(
        subject=subject,
        severity="problem",
        message=reason,
        remedy="Correct --storage, or see that its server runs and lets this user in.",
    )


def missing_home(path: Path) -> Finding:
    """Return what is to be said of a home that nothing was run in."""
    return Finding(
        subject=str(path),
        severity="note",
        message="There is no home directory here yet.",
        remedy="`caviar run STUDY.toml` makes it; --home or CAVIAR_HOME names another.",
    )


def _corrupt(path: Path, message: str) -> Finding:
    return Finding(
        subject=str(path),
        severity="problem",
        message=message,
        remedy=(
            "Stop every worker and put a backup in its place, or save what can be read into a new file: "
            f"sqlite3 {path.name} .recover | sqlite3 NEW.db"
        ),
    )


def _shared(path: Path, option: str) -> Finding:
    return Finding(
        subject=str(path),
        severity="problem",
        message="Optuna and MLflow share this file: each takes the other's tables for its own and breaks them.",
        remedy=f"Give {option} a file of its own; `caviar sync` fills a new MLflow store from the study.",
    )


def _foreign(path: Path, facts: SqliteFacts, *, option: str) -> Finding:
    return Finding(
        subject=str(path),
        severity="problem",
        message=f"It is a database of something else (its tables: {', '.join(sorted(facts.tables)[:5])}).",
        remedy=f"Name another file with {option}, or another --home.",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"
