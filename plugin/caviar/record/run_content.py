"""What an MLflow run says of a trial: pure functions from a trial to names, tags and points."""

import dataclasses
import datetime
import functools
import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from ..attributes import BEST_VALUE
from .data_set import StudyData
from .environment import environment_versions
from .shared_view import SharedView, log_parameters, trial_view

STUDY_TAG = "caviar.study"
STUDY_UID_TAG = "caviar.study_uid"
TRIAL_NUMBER_TAG = "caviar.trial_number"

RUN_STATUS: Mapping[TrialState, str] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
    TrialState.WAITING: "SCHEDULED",
}

#: The statuses from which no run comes back: Optuna never takes a trial's end back.
FINAL_STATUSES = frozenset(status for state, status in RUN_STATUS.items() if state.is_finished())

_ACCEPTED = re.compile(r"[\w.\- ][/\w.\- ]*")
_MAX_NAME = 250  # characters; the lowest of MLflow's limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyIdentity:
    """Which study an experiment mirrors.

    Attributes:
        name: The study's name, and the experiment's.
        uid: What tells it from an older study of that name; empty if nothing does.
        artifact_location: Where a new experiment's runs keep their artifacts; None leaves it to MLflow.
        tags: Shown on the experiment and on its runs.
        versions: What its trials run with, shown on new runs; those of this process if they are not known.
        data: The data set, an input of every run; None if it is not known.
    """

    name: str
    uid: str = ""
    artifact_location: str | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=environment_versions)
    data: StudyData | None = None


class Point(NamedTuple):
    """One value of a metric: its name, value, step (the epoch from 0) and time (Unix, milliseconds)."""

    key: str
    value: float
    step: int
    time_ms: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial as the storage has it, in any state, and what is shown of it.

    Attributes:
        trial: The trial.
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
    """What the run of the trial with this number is to hold, whoever writes it; times are Unix milliseconds."""

    number: int
    name: str
    status: str  # MLflow's word for the trial's state
    start_ms: int
    end_ms: int | None  # None while it has not ended
    points: Sequence[Point]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    first_tags: Mapping[str, str]  # those that only a new run is given, beside the tags
    view: SharedView | None  # the experiment's view that fits the trial; None where nothing was drawn
    data: StudyData | None = None  # what it was trained on; None if that is not known


def run_content(record: TrialRecord, *, study: StudyIdentity, now_s: float) -> RunContent:
    """Return what a trial's run is to hold; ``now_s``, Unix seconds, stands for a time that the trial does not have."""
    trial = record.trial
    params = run_params(trial, record.hyperparameters)
    names = accepted_names(params)
    metrics = accepted_names(record.curves)
    curves = {metrics[name]: curve for name, curve in record.curves.items()}
    tags = run_tags(trial, record.curves, study_name=study.name, study_uid=study.uid)
    versions = {f"env.{name}": version for name, version in study.versions.items()}
    return RunContent(
        number=trial.number,
        name=run_name(study.name, trial.number),
        status=RUN_STATUS[trial.state],
        start_ms=_time_ms(trial.datetime_start, default_s=now_s),
        end_ms=_time_ms(trial.datetime_complete, default_s=now_s) if trial.state.is_finished() else None,
        points=curve_points(trial, curves, now_s=now_s) + summary_points(trial, now_s=now_s),
        params={names[name]: value for name, value in params.items()},
        tags={**tags, **study.tags, **record.tags},
        first_tags={"mlflow.source.name": "caviar", "mlflow.source.type": "LOCAL", **versions},
        view=trial_view(trial, record.hyperparameters, curves).renamed(names) if trial.params else None,
        data=study.data,
    )


@functools.lru_cache(maxsize=1024)
def is_accepted_name(name: str) -> bool:
    """Return whether MLflow takes this as the name of a parameter, metric or tag."""
    fits = len(name) <= _MAX_NAME and _ACCEPTED.fullmatch(name) is not None
    return fits and posixpath.normpath(name) == name and not name.startswith(".")


def accepted_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name one that MLflow takes: itself, or with ``_`` for what MLflow refuses; no two are alike."""
    known = list(names)
    accepted = {name: name for name in known if is_accepted_name(name)}
    for name in known:
        if name not in accepted:
            other = re.sub(r"[^\w\- ]", "_", name)[: _MAX_NAME // 2] or "_"
            while other in accepted.values():
                other += "_"
            accepted[name] = other
    return accepted


def run_name(study_name: str, number: int) -> str:
    """Return the name of a trial's run, such as ``digits #12``."""
    return f"{study_name} #{number}"


def curve_points(trial: FrozenTrial, curves: Mapping[str, Sequence[float]], *, now_s: float) -> list[Point]:
    """Return the points of a trial's curves, each at the time when its epoch ended.

    Values that are not finite are left out: MLflow stores infinity as 1.8e308 and NaN as 0, and either ruins the
    chart's scale. Times are spread evenly from the trial's start to its end, or to now while it runs.
    """
    start = _time_ms(trial.datetime_start, default_s=now_s)
    end = max(start, _time_ms(trial.datetime_complete, default_s=now_s))
    points = []
    for key, values in curves.items():
        for step, value in enumerate(values):
            if math.isfinite(value):
                moment = start + round((end - start) * (step + 1) / len(values))
                points.append(Point(key, float(value), step, moment))
    return points


def summary_points(trial: FrozenTrial, *, now_s: float) -> list[Point]:
    """Return a finished trial's summary: what one sorts the table of runs by.

    ``value`` is the value that Optuna ranks trials by, so only a COMPLETE trial has it: sorted by it, the table
    begins with Optuna's best trial. ``best_value`` is the best epoch's, of PRUNED trials too (from the trial's
    attribute of this name).
    """
    if not trial.state.is_finished():
        return []
    moment = _time_ms(trial.datetime_complete, default_s=now_s)
    values: dict[str, object] = {BEST_VALUE: trial.user_attrs.get(BEST_VALUE)}
    if trial.state == TrialState.COMPLETE:
        values["value"] = trial.value
        if values[BEST_VALUE] is None:
            values[BEST_VALUE] = trial.value
    return [
        Point(key, float(value), 0, moment)
        for key, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def diverged_epoch(curves: Mapping[str, Sequence[float]]) -> int | None:
    """Return the first epoch with a value that is not finite, in any curve; None if there is none."""
    epochs = [step for values in curves.values() for step, value in enumerate(values) if not math.isfinite(value)]
    return min(epochs, default=None)


def run_params(trial: FrozenTrial, hyperparameters: Mapping[str, object]) -> dict[str, str]:
    """Return a run's parameters: as the user thinks of them, as Optuna sampled them, and by exponent on log scales."""
    named = {**trial.params, **hyperparameters}
    return {**log_parameters(trial), **{name: str(value) for name, value in named.items()}}


def run_tags(
    trial: FrozenTrial, curves: Mapping[str, Sequence[float]], *, study_name: str, study_uid: str
) -> dict[str, str]:
    """Return the tags that say which trial a run is, and how it stands."""
    tags = {STUDY_TAG: study_name, TRIAL_NUMBER_TAG: str(trial.number), "caviar.state": trial.state.name}
    if study_uid:
        tags[STUDY_UID_TAG] = study_uid
    epoch = diverged_epoch(curves)
    if epoch is not None:
        tags["caviar.diverged_epoch"] = str(epoch)
    return tags


def _time_ms(moment: datetime.datetime | None, *, default_s: float) -> int:
    """Return a trial's time as Unix milliseconds; Optuna's times are naive and local."""
    return round(1000 * (default_s if moment is None else moment.timestamp()))
