"""Shows a study's trials in MLflow."""

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from ..attributes import CANDIDATE, CHANGES, CURVES, FAIL_REASON, OWNER, PARENT_TRIAL, RETRY_HISTORY, ROUND
from ..interventions import interventions_of, live_curves
from ..record.background import Recorder
from ..record.dashboard import plot_changes
from ..record.mlflow_mirror import MlflowMirror
from ..record.run_content import TrialRecord
from ..search.stages import ZoomPlan, plan_of_study
from ..space import SearchSpace
from ..spec import StudySpec

#: What was changed by hand, in words.
INTERVENTIONS_TAG = "caviar.interventions"
#: Host and process of the worker that had the trial last.
WORKER_TAG = "caviar.worker"
#: Where a search from coarse to fine stood, from 1.
STAGE_TAG = "caviar.stage"

#: Attributes of trials that their runs have as tags, by the tags' names.
_SHOWN_ATTRIBUTES = {
    "caviar.fail_reason": FAIL_REASON,
    "caviar.candidate": CANDIDATE,
    "caviar.round": ROUND,
}

_AT_ONCE = 16  # trials between two looks at the clock: of a slow server, as few as possible; of a file, as many

_Curves = Mapping[str, Sequence[float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mirroring:
    """What MLflow is shown of a study's trials, all of it read from the study's storage.

    Attributes:
        space: Gives the hyperparameters as the user thinks of them.
        metric: The curve of a trial that ended before its curves were stored.
        plan: Where the stages of the sampler ``zoom`` begin, by trial number; None for another sampler.
    """

    space: SearchSpace
    metric: str
    plan: ZoomPlan | None = None

    def record(self, trial: FrozenTrial, curves: _Curves | None = None) -> TrialRecord:
        """Return what is shown of a trial: hyperparameters as the user thinks of them, and every curve.

        What was changed by hand is a tag in words, and a curve of each hyperparameter that was set. One that ended
        before its curves were stored shows the reported metric alone. ``curves`` are those of a running trial, which
        the storage does not have yet.
        """
        reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        shown = curves or trial.user_attrs.get(CURVES) or {self.metric: reported}
        hyperparameters = self.space.hyperparameters(trial.params)
        changes = interventions_of(trial.user_attrs)
        set_by_hand = live_curves(changes, hyperparameters, epochs=max(map(len, shown.values()), default=0))
        curves = {name: tuple(values) for name, values in {**shown, **set_by_hand}.items()}  # a trial in hand grows
        return TrialRecord(trial=trial, hyperparameters=hyperparameters, curves=curves, tags=self._tags(trial))

    def _tags(self, trial: FrozenTrial) -> dict[str, str]:
        tags = {tag: str(trial.user_attrs[key]) for tag, key in _SHOWN_ATTRIBUTES.items() if key in trial.user_attrs}
        if OWNER in trial.system_attrs:
            tags[WORKER_TAG] = trial.system_attrs[OWNER].rpartition(":")[0]
        elif trial.state.is_finished():
            tags[WORKER_TAG] = "none"  # it ended while it waited
        if RETRY_HISTORY in trial.system_attrs:
            tags["caviar.retry_of"] = str(trial.system_attrs[RETRY_HISTORY][-1])
        if self.plan is not None:
            tags[STAGE_TAG] = str(self.plan.stage_of(trial.number) + 1)
        if CHANGES in trial.user_attrs:
            tags[INTERVENTIONS_TAG] = trial.user_attrs[CHANGES]
        return tags


def mirroring_of(study: optuna.Study, spec: StudySpec) -> Mirroring:
    """Return what MLflow is shown of a study's trials."""
    plan = plan_of_study(study, spec.search)
    shifted = None if plan is None else plan.among(study.get_trials(deepcopy=False))
    return Mirroring(space=spec.space, metric=spec.objective.metric, plan=shifted)


def mirror_trials(
    mirror: Recorder,
    trials: Iterable[FrozenTrial],
    mirroring: Mirroring,
    *,
    curves: Mapping[int, _Curves] | None = None,
) -> None:
    """Record trials in MLflow as they are; ``curves`` has, by number, those of running trials."""
    mirror.record_many([mirroring.record(trial, (curves or {}).get(trial.number)) for trial in trials])


def show_trials(
    mirror: Recorder | None,
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    *,
    spec: StudySpec,
    curves: Mapping[int, _Curves] | None = None,
) -> None:
    """Record trials as `mirror_trials` does, where there is a mirror, and plot what was changed by hand in the study.

    Raises:
        StorageInternalError: If the plots cannot be stored.
    """
    if mirror is not None and trials:
        mirror_trials(mirror, trials, mirroring_of(study, spec), curves=curves)
    plot_changes(study, trials, metric=spec.objective.metric)


def trials_with_runs(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that should have an MLflow run: the runs of a zoom's copies are their parent study's."""
    return [trial for trial in trials if PARENT_TRIAL not in trial.user_attrs]


def sync_trials(
    mirror: MlflowMirror, trials: Iterable[FrozenTrial], mirroring: Mirroring, *, within_s: float = math.inf
) -> tuple[int, int]:
    """Record those of a study's trials that MLflow lacks or shows in another state, without a zoom's copies.

    No more begins after ``within_s`` seconds. Returns how many were recorded, and how many were not, because there was
    no time, or the store is down or refuses them.
    """
    deadline_s = time.monotonic() + within_s
    by_number = {trial.number: trial for trial in trials_with_runs(trials)}
    missing = mirror.missing_trials(by_number.values())
    n_begun = 0
    while n_begun < len(missing) and time.monotonic() < deadline_s:
        some = missing[n_begun : n_begun + _AT_ONCE]
        mirror_trials(mirror, [by_number[number] for number in some], mirroring)
        n_begun += len(some)
    failed = len(mirror.missed) + len(missing) - n_begun
    return len(missing) - failed, failed


def fill_trials(mirror: MlflowMirror, trials: Iterable[FrozenTrial], mirroring: Mirroring) -> tuple[int, int]:
    """Record all that MLflow lacks of a study's trials, however little of a run; a second call changes nothing.

    Returns how many runs lacked something, and how many trials could not be recorded.
    """
    shown = [
        t for t in trials_with_runs(trials) if t.state.is_finished() or t.intermediate_values or CURVES in t.user_attrs
    ]
    filled = mirror.fill([mirroring.record(trial) for trial in shown])
    return filled, len(mirror.missed)
