"""Check the studies of a home: their running trials, versions, checkpoints, and what MLflow shows of them."""

import dataclasses
import datetime
import functools
import json
import time
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from ..attributes import ENVIRONMENT, STUDY_UID
from ..errors import CaviarError, StorageError, nearest_name
from ..optuna_private import id_of_study
from ..record.environment import environment_versions
from ..record.inspection import missing_numbers, read_run_statuses
from ..spec import StudySpec
from ..storage.addresses import masked
from ..storage.checkpoints import CheckpointStore
from ..storage.database import new_owner, open_storage
from ..storage.handing_back import hand_back_expired
from ..storage.home import Home
from ..storage.inspection import reading_storage
from ..storage.leased_storage import LeasedStorage
from ..storage.overview import RunningTrial, read_running
from ..storage.studies import stored_spec
from ..worker.mirroring import trials_with_runs
from ..worker.opening import open_checkpoints
from .findings import Findings, numbered
from .mending import sync_study

#: Seconds within which a worker records a trial in MLflow after it has ended it. Mostly it takes some 50 ms, but its
#: first record imports mlflow and opens the store: over 5 s where several workers load a small machine.
_RECORDING_S = 15.0

#: The versions that a study's results depend on.
_DECISIVE = ("python", "tensorflow", "keras", "numpy", "optuna", "mlflow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyState:
    """What was read of a study, at one time, before anything is mended; its storage is closed since."""

    name: str
    uid: str
    study_id: int
    spec: StudySpec
    environment: Mapping[str, str]
    checkpoints: CheckpointStore
    checkpointed: Sequence[int]
    running: Sequence[RunningTrial]
    trials: Sequence[FrozenTrial]


def read_studies(home: Home, study: str | None, found: Findings, *, has_files: bool = True) -> list[StudyState]:
    """Read the studies that were made from study files, and say what cannot be read.

    Without files, their checkpoints are not looked at.
    """
    states: list[StudyState] = []
    try:
        with reading_storage(home.storage) as storage:
            names = optuna.get_all_study_names(storage)
            if study is not None and study not in names:
                hint = nearest_name(study, names) if names else "`caviar run STUDY.toml` begins one."
                found.add("unknown_study", f"study {study}", hint=hint)
            for name in names:
                if study in (None, name):
                    state = _read_study(home, study, found, storage, name, has_files=has_files)
                    states += [state] if state is not None else []
    except StorageError as error:
        found.add("storage_unreachable", masked(home.storage), reason=error)
    return states


def check_study(home: Home, state: StudyState, found: Findings, *, tracked: bool) -> None:
    """Check a study's running trials, versions, checkpoints and, if MLflow can be read, what it shows."""
    subject, lease_s = f"study {state.name}", state.spec.search.lease_s
    lost = [trial for trial in state.running if trial.expired(lease_s)]
    for kind, leased in (("orphans", False), ("expired", True)):
        numbers = [trial.number for trial in lost if bool(trial.owner) == leased]
        if numbers:
            mend = functools.partial(_hand_back, home, state)
            found.add(kind, subject, mend=mend, trials=numbered(numbers), lease_s=lease_s)
    begun, installed = (
        {name: of.get(name, "not installed") for name in _DECISIVE}
        for of in (state.environment, environment_versions())
    )
    changes = [f"{name} {begun[name]} → {installed[name]}" for name in _DECISIVE if begun[name] != installed[name]]
    if changes and state.environment:
        found.add("other_versions", subject, changes=", ".join(changes))
    settled = _settled_trials(state)
    left = sorted({trial.number for trial in settled}.intersection(state.checkpointed))
    if left:
        remove = state.checkpoints.remove
        found.add("old_checkpoints", subject, mend=lambda: list(map(remove, left)), trials=numbered(left))
    if tracked:
        _check_runs(home, state, found, settled)


def _read_study(
    home: Home, only: str | None, found: Findings, storage: LeasedStorage, name: str, *, has_files: bool
) -> StudyState | None:
    study = optuna.load_study(study_name=name, storage=storage)
    try:
        spec = stored_spec(study)
        environment = json.loads(study.user_attrs.get(ENVIRONMENT, "{}"))
    except (CaviarError, ValueError, TypeError) as error:
        found.add("unreadable_study", f"study {name}", reason=error)
        return None
    if spec is None:
        if only is not None:
            found.add("foreign_study", f"study {name}")
        return None
    checkpoints = open_checkpoints(home, study)
    return StudyState(
        name=name,
        uid=study.user_attrs.get(STUDY_UID, ""),
        study_id=id_of_study(study),
        spec=spec,
        environment=environment,
        # In this order: a checkpoint or a lease that is there while its trial is read as finished is a leftover.
        checkpoints=checkpoints,
        checkpointed=checkpoints.numbers() if has_files else [],
        running=read_running(storage, id_of_study(study)),
        trials=study.get_trials(deepcopy=False),
    )


def _check_runs(home: Home, state: StudyState, found: Findings, settled: Sequence[FrozenTrial]) -> None:
    now, recent = datetime.datetime.now(), datetime.timedelta(seconds=_RECORDING_S)  # noqa: DTZ005  (Optuna's times)
    fresh = {t.number for t in settled if t.datetime_complete and abs(now - t.datetime_complete) < recent}
    deadline = time.monotonic() + _RECORDING_S
    while True:
        try:
            statuses = read_run_statuses(home.tracking_uri, study_name=state.name, study_uid=state.uid)
        except StorageError as error:
            found.add("runs_unreadable", masked(home.tracking_uri), study=state.name, reason=error)
            return
        numbers = missing_numbers(trials_with_runs(settled), statuses)
        if fresh.isdisjoint(numbers) or time.monotonic() >= deadline:
            break
        time.sleep(0.2)  # a worker between two trials, holding none, may be recording the one before
    if numbers:
        mend = functools.partial(_sync, home, state.name)
        found.add("missing_runs", f"study {state.name}", mend=mend, trials=numbered(numbers), study=state.name)


def _hand_back(home: Home, state: StudyState) -> None:
    storage = open_storage(home.storage, owner=new_owner())
    try:
        search = state.spec.search
        hand_back_expired(storage, state.study_id, lease_s=search.lease_s, retries=search.retries)
    finally:
        storage.close()


def _sync(home: Home, name: str) -> None:
    _, failed = sync_study(home, name)
    if failed:
        raise StorageError(f"{failed} trials could not be recorded in MLflow; the warning above says why.")


def _settled_trials(state: StudyState) -> list[FrozenTrial]:
    """Return the finished trials about which nothing more is to be expected.

    A worker records a trial in MLflow, and removes its checkpoints, after it has ended it: while workers are at it,
    what ended within the last lease is left out.
    """
    lease_s = state.spec.search.lease_s
    ended = [trial for trial in state.trials if trial.state.is_finished()]
    if not any(trial.owner and not trial.expired(lease_s) for trial in state.running):
        return ended
    now, lease = datetime.datetime.now(), datetime.timedelta(seconds=lease_s)  # noqa: DTZ005  (Optuna's times)
    return [t for t in ended if t.datetime_complete is None or abs(now - t.datetime_complete) >= lease]
