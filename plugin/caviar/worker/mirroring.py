"""Shows a study's trials in MLflow."""

from collections.abc import Iterable, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from ..attributes import CHANGES, CURVES, PARENT_TRIAL
from ..interventions import interventions_of, live_curves
from ..record.dashboard import plot_changes
from ..record.mlflow_mirror import MlflowMirror
from ..record.run_content import TrialRecord
from ..space import SearchSpace
from ..spec import StudySpec

#: What was changed by hand, in words.
INTERVENTIONS_TAG = "caviar.interventions"

_Curves = Mapping[str, Sequence[float]]


def mirror_trials(
    mirror: MlflowMirror,
    trials: Iterable[FrozenTrial],
    *,
    space: SearchSpace,
    metric: str,
    curves: Mapping[int, _Curves] | None = None,
) -> None:
    """Record trials in MLflow as they are: hyperparameters as the user thinks of them, and every curve.

    What was changed by hand is a tag in words, and a curve of each hyperparameter that was set. One that ended before
    its curves were stored shows the reported metric alone. ``curves`` has, by number, those of running trials, which
    the storage does not have yet.
    """
    records = []
    for trial in trials:
        stored = (curves or {}).get(trial.number) or trial.user_attrs.get(CURVES)
        reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        shown = stored or {metric: reported}
        hyperparameters = space.hyperparameters(trial.params)
        changes = interventions_of(trial.user_attrs)
        set_by_hand = live_curves(changes, hyperparameters, epochs=max(map(len, shown.values()), default=0))
        records.append(
            TrialRecord(
                trial=trial,
                hyperparameters=hyperparameters,
                curves={**shown, **set_by_hand},
                tags={INTERVENTIONS_TAG: trial.user_attrs[CHANGES]} if changes else {},
            )
        )
    mirror.record_many(records)


def show_trials(
    mirror: MlflowMirror | None,
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
        mirror_trials(mirror, trials, space=spec.space, metric=spec.objective.metric, curves=curves)
    plot_changes(study, trials, metric=spec.objective.metric)


def trials_with_runs(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that should have an MLflow run: the runs of a zoom's copies are their parent study's."""
    return [trial for trial in trials if PARENT_TRIAL not in trial.user_attrs]


def sync_trials(
    mirror: MlflowMirror, trials: Iterable[FrozenTrial], *, space: SearchSpace, metric: str
) -> tuple[int, int]:
    """Record those of a study's trials that MLflow lacks, without a zoom's copies; a second call changes nothing.

    Returns how many were recorded, and how many could not be, because the store is down or refuses them.
    """
    by_number = {trial.number: trial for trial in trials_with_runs(trials)}
    missing = mirror.missing_trials(by_number.values())
    mirror_trials(mirror, [by_number[number] for number in missing], space=space, metric=metric)
    failed = len(mirror.missed)
    return len(missing) - failed, failed
