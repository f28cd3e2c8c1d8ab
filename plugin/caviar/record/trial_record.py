"""A trial as it is handed to the mirror, and what its run is to hold."""

import dataclasses
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial

from .environment import environment_versions
from .experiment import StudyIdentity
from .run_content import (
    RUN_STATUS,
    Point,
    accepted_names,
    curve_points,
    run_name,
    run_params,
    run_tags,
    summary_points,
    time_ms,
)
from .shared_view import SharedView, trial_view


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial and what is shown of it.

    Attributes:
        trial: The trial as the storage has it, in any state.
        hyperparameters: As the user thinks of them (``momentum``). Added from the trial: what Optuna sampled
            (``one_minus_momentum``), and the exponent of what has a log scale (``learning_rate_log10``).
        curves: For each metric its values from epoch 0, any length. A value that is not finite is left out, and the
            first such epoch is kept in the tag ``caviar.diverged_epoch``.
        tags: More tags. The experiment's and, on a new run, the environment's versions (``env.python`` and so on)
            are added unless given here.
    """

    trial: FrozenTrial
    hyperparameters: Mapping[str, object]
    curves: Mapping[str, Sequence[float]]
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunContent:
    """What a trial's run is to hold, whoever writes it.

    Attributes:
        number: The trial's.
        name: The run's.
        status: MLflow's word for the trial's state.
        start_ms: When the trial started; Unix, milliseconds.
        end_ms: When it ended; None while it has not.
        points: Every value of every metric.
        params: By name.
        tags: By name.
        first_tags: Those that only a new run is given, beside the tags.
        view: The view of the experiment that fits the trial; None where nothing was drawn.
    """

    number: int
    name: str
    status: str
    start_ms: int
    end_ms: int | None
    points: Sequence[Point]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    first_tags: Mapping[str, str]
    view: SharedView | None


def run_content(record: TrialRecord, *, study: StudyIdentity, now_s: float) -> RunContent:
    """Return what a trial's run is to hold.

    Args:
        record: The trial.
        study: Whose trial it is.
        now_s: The present as Unix seconds, for what the trial has no time of.
    """
    trial = record.trial
    params = run_params(trial, record.hyperparameters)
    names = accepted_names(params)
    metrics = accepted_names(record.curves)
    curves = {metrics[name]: curve for name, curve in record.curves.items()}
    tags = run_tags(trial, record.curves, study_name=study.name, study_uid=study.uid)
    versions = {f"env.{name}": version for name, version in environment_versions().items()}
    return RunContent(
        number=trial.number,
        name=run_name(study.name, trial.number),
        status=RUN_STATUS[trial.state],
        start_ms=time_ms(trial.datetime_start, default_s=now_s),
        end_ms=time_ms(trial.datetime_complete, default_s=now_s) if trial.state.is_finished() else None,
        points=curve_points(trial, curves, now_s=now_s) + summary_points(trial, now_s=now_s),
        params={names[name]: value for name, value in params.items()},
        tags={**tags, **study.tags, **record.tags},
        first_tags={"mlflow.source.name": "caviar", "mlflow.source.type": "LOCAL", **versions},
        view=trial_view(trial, record.hyperparameters, curves).renamed(names) if trial.params else None,
    )
