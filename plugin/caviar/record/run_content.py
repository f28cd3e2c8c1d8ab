"""What an MLflow run says of a trial: pure functions from a trial to names, tags and points."""

import datetime
import functools
import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from .shared_view import log_parameters

STUDY_TAG = "caviar.study"
STUDY_UID_TAG = "caviar.study_uid"
TRIAL_NUMBER_TAG = "caviar.trial_number"
STATE_TAG = "caviar.state"
DIVERGED_TAG = "caviar.diverged_epoch"
BEST_VALUE = "best_value"  # a metric here, and the trial's attribute in Optuna

RUN_STATUS: Mapping[TrialState, str] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
    TrialState.WAITING: "SCHEDULED",
}


_ACCEPTED = re.compile(r"[\w.\- ][/\w.\- ]*")
_MAX_NAME = 250  # characters; the lowest of MLflow's limits


class Point(NamedTuple):
    """One value of a metric: its name, value, step (the epoch from 0) and time (Unix, milliseconds)."""

    key: str
    value: float
    step: int
    time_ms: int


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


def time_ms(moment: datetime.datetime | None, *, default_s: float) -> int:
    """Return a trial's time as Unix milliseconds; Optuna's times are naive and local."""
    return round(1000 * (default_s if moment is None else moment.timestamp()))


def curve_points(trial: FrozenTrial, curves: Mapping[str, Sequence[float]], *, now_s: float) -> list[Point]:
    """Return the points of a trial's curves, each at the time when its epoch ended.

    Values that are not finite are left out: MLflow stores infinity as 1.8e308 and NaN as 0, and either ruins the
    chart's scale. Times are spread evenly from the trial's start to its end, or to now while it runs.

    Args:
        trial: The trial; its start and end give the times.
        curves: For each metric its value at every epoch, from epoch 0.
        now_s: The present as Unix seconds.
    """
    start = time_ms(trial.datetime_start, default_s=now_s)
    end = max(start, time_ms(trial.datetime_complete, default_s=now_s))
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
    moment = time_ms(trial.datetime_complete, default_s=now_s)
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
    tags = {STUDY_TAG: study_name, TRIAL_NUMBER_TAG: str(trial.number), STATE_TAG: trial.state.name}
    if study_uid:
        tags[STUDY_UID_TAG] = study_uid
    epoch = diverged_epoch(curves)
    if epoch is not None:
        tags[DIVERGED_TAG] = str(epoch)
    return tags
