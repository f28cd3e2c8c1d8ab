"""What is wrong with a study: pure functions from what was read of it to findings in plain words."""

import datetime
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial

from ..errors import nearest_name
from ..storage.overview import RunningTrial
from .diagnosis import Finding

#: Whose versions a study's results depend on.
_DECISIVE = ("python", "tensorflow", "keras", "numpy", "optuna", "mlflow")


def judge_running(study: str, running: Sequence[RunningTrial], *, lease_s: float) -> list[Finding]:
    """Return what is wrong with a study's RUNNING trials: those that nobody holds, and those whose lease expired.

    Args:
        study: Its name.
        running: Its RUNNING trials.
        lease_s: Seconds of silence that a lease allows.
    """
    lost = [trial for trial in running if trial.expired(lease_s)]
    zombies = [trial.number for trial in lost if not trial.leased]
    expired = [trial.number for trial in lost if trial.leased]
    remedy = "--fix hands them back at once; the next worker of the study does so too: `caviar run` or `caviar worker`."
    findings = []
    if zombies:
        findings.append(
            Finding(
                subject=f"study {study}",
                severity="problem",
                message=f"RUNNING, but nobody holds a lease on them: {numbered(zombies)}. What ran them is gone.",
                remedy=remedy,
            )
        )
    if expired:
        findings.append(
            Finding(
                subject=f"study {study}",
                severity="problem",
                message=f"RUNNING, but their worker has been silent for over {lease_s:g} s: {numbered(expired)}.",
                remedy=remedy,
            )
        )
    return findings


def judge_versions(study: str, begun: Mapping[str, str], installed: Mapping[str, str]) -> Finding | None:
    """Return which versions differ from those that a study was begun with; a study that kept none has no fault."""
    changed = [
        f"{name} {begun.get(name, 'not installed')} → {installed.get(name, 'not installed')}"
        for name in _DECISIVE
        if begun and begun.get(name) != installed.get(name)
    ]
    if not changed:
        return None
    return Finding(
        subject=f"study {study}",
        severity="note",
        message=f"It was begun with other versions than are installed here: {', '.join(changed)}.",
        remedy="New trials may come out a little differently. For exactly the same ones, install those versions.",
    )


def judge_checkpoints(study: str, left: Sequence[int]) -> Finding | None:
    """Return what is to be said of checkpoints that finished trials left behind."""
    if not left:
        return None
    return Finding(
        subject=f"study {study}",
        severity="note",
        message=f"Checkpoints are left of finished trials: {numbered(left)}. They only take room.",
        remedy="--fix removes them.",
    )


def judge_missing(study: str, missing: Sequence[int]) -> Finding | None:
    """Return what is wrong with MLflow's mirror of a study."""
    if not missing:
        return None
    return Finding(
        subject=f"study {study}",
        severity="problem",
        message=f"MLflow lacks, or shows in another state: {numbered(missing)}.",
        remedy=f"--fix fills them in, and so does `caviar sync {study}`.",
    )


def unknown_study(study: str, names: Sequence[str]) -> Finding:
    """Return what to do about a study's name that the database does not have."""
    return Finding(
        subject=f"study {study}",
        severity="problem",
        message="There is no such study.",
        remedy=nearest_name(study, names) if names else "`caviar run STUDY.toml` begins one.",
    )


def unreadable_study(study: str, reason: str) -> Finding:
    """Return what to do about a study whose own notes make no sense here."""
    return Finding(
        subject=f"study {study}",
        severity="problem",
        message=f"What it keeps of its study file cannot be read: {reason}",
        remedy="Another version of optuna-caviar wrote it: use that one, or run the file with --fresh.",
    )


def foreign_study(study: str) -> Finding:
    """Return what is to be said of a study that something else made."""
    return Finding(
        subject=f"study {study}",
        severity="note",
        message="It was not made from a study file, so only its storage was looked at.",
        remedy="optuna-dashboard shows it.",
    )


def settled_trials(
    trials: Sequence[FrozenTrial], running: Sequence[RunningTrial], *, lease_s: float, now: datetime.datetime
) -> list[FrozenTrial]:
    """Return the finished trials about which nothing more is to be expected.

    A worker records a trial in MLflow, and removes its checkpoints, after it has ended it: while workers are at it,
    what ended within the last lease is left out.

    Args:
        trials: A study's.
        running: Its RUNNING ones.
        lease_s: Seconds of silence that a lease allows.
        now: Naive and local, as Optuna's times are.
    """
    at_work = any(trial.leased and not trial.expired(lease_s) for trial in running)
    lease = datetime.timedelta(seconds=lease_s)
    return [
        trial
        for trial in trials
        if trial.state.is_finished()
        and not (at_work and trial.datetime_complete is not None and abs(now - trial.datetime_complete) < lease)
    ]


def numbered(numbers: Sequence[int]) -> str:
    """Return trials in words, at most ten by number: ``3 trials (4, 7, 9)``."""
    shown = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
    return f"{len(numbers)} trial{'' if len(numbers) == 1 else 's'} ({shown})"
