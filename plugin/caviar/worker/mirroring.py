"""What MLflow is shown of a study's trials."""

from collections.abc import Iterable, Mapping, Sequence

from optuna.trial import FrozenTrial

from ..attributes import CURVES, PARENT_TRIAL
from ..record.mlflow_mirror import MlflowMirror
from ..record.trial_record import TrialRecord
from ..space import SearchSpace


def mirror_trial(
    mirror: MlflowMirror,
    trial: FrozenTrial,
    *,
    space: SearchSpace,
    metric: str,
    curves: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Record a trial in MLflow as it stands: hyperparameters as the user thinks of them, and every curve.

    Args:
        mirror: The study's.
        trial: In any state; one that ended before its curves were kept shows the reported metric alone.
        space: Which the trial was drawn from.
        metric: Which it reported.
        curves: Its curves so far, where the trial still runs and the storage has them not yet.
    """
    mirror.record_many([_record(trial, space=space, metric=metric, curves=curves)])


def mirror_trials(mirror: MlflowMirror, trials: Iterable[FrozenTrial], *, space: SearchSpace, metric: str) -> None:
    """Record many trials in MLflow at once, each as `mirror_trial` does: a fraction of the work, trial by trial.

    Args:
        mirror: The study's.
        trials: In any state, their curves in the storage.
        space: Which they were drawn from.
        metric: Which they reported.
    """
    mirror.record_many([_record(trial, space=space, metric=metric) for trial in trials])


def trials_with_runs(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that have, or should have, a run of their own: a zoom's copies have theirs in its parent."""
    return [trial for trial in trials if PARENT_TRIAL not in trial.user_attrs]


def sync_trials(
    mirror: MlflowMirror, trials: Iterable[FrozenTrial], *, space: SearchSpace, metric: str
) -> tuple[int, int]:
    """Fill in what MLflow lacks of a study's trials; a second call changes nothing. A zoom's copies are passed over.

    Returns:
        How many trials were filled in, and how many could not be, because the store is down or refuses them.
    """
    by_number = {trial.number: trial for trial in trials_with_runs(trials)}
    missing = mirror.missing_trials(by_number.values())
    mirror_trials(mirror, [by_number[number] for number in missing], space=space, metric=metric)
    failed = len(mirror.missed)
    return len(missing) - failed, failed


def _record(
    trial: FrozenTrial, *, space: SearchSpace, metric: str, curves: Mapping[str, Sequence[float]] | None = None
) -> TrialRecord:
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return TrialRecord(
        trial=trial,
        hyperparameters=space.hyperparameters(trial.params),
        curves=curves or trial.user_attrs.get(CURVES) or {metric: reported},
    )
