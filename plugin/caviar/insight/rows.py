"""Trials as the report shows them: one value each, pruned ones included."""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from ..attributes import BEST_EPOCH, BEST_VALUE, CURVES, DIVERGED, FAIL_REASON, PARENT_TRIAL, TRAIN_SECONDS
from ..metrics import direction_of
from ..parameters import Parameter

State = Literal["complete", "pruned", "failed", "running", "waiting"]

_STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial.

    Attributes:
        number: Optuna's.
        state: What became of it.
        value: Its best epoch's metric, of a pruned trial the best it reached; None where none was reported.
        best_epoch: When, from 0, or None.
        curve: The metric, epoch by epoch.
        curves: Every kept curve by its name, the metric's too.
        seconds: Of building, compiling and training; None where it was not kept.
        diverged: Whether training ran to infinity.
        inherited: Whether it was copied from the study that this one was narrowed from, and cost nothing here.
        hyperparameters: What was drawn, by the names that the user thinks of (``momentum``, ``units_2``).
        fail_reason: Why it failed, or None.
        started: When it started, or None.
        ended: When it ended, or None.
    """

    number: int
    state: State
    value: float | None
    best_epoch: int | None
    curve: tuple[float, ...]
    curves: Mapping[str, tuple[float, ...]]
    seconds: float | None
    diverged: bool
    inherited: bool
    hyperparameters: Mapping[str, Any]
    fail_reason: str | None
    started: datetime.datetime | None
    ended: datetime.datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether it counts towards the budget: complete or pruned."""
        return self.state in ("complete", "pruned")


def trial_rows(trials: Iterable[FrozenTrial], parameters: Sequence[Parameter], *, metric: str) -> list[TrialRow]:
    """Return a row a trial, by number.

    Args:
        trials: In any state and order.
        parameters: What the space draws, as ``axes.drawn_parameters`` gives it.
        metric: Which the study optimises.
    """
    return [_row(trial, parameters, metric) for trial in sorted(trials, key=lambda trial: trial.number)]


def best_rows(rows: Iterable[TrialRow], *, metric: str) -> list[TrialRow]:
    """Return the complete trials from the best on; of equal ones the earlier first, as Optuna chooses."""
    complete = [row for row in rows if row.state == "complete" and row.value is not None]
    sign = 1 if direction_of(metric) == "minimize" else -1
    return sorted(complete, key=lambda row: (sign * (row.value or 0.0), row.number))


def best_reached(trial: FrozenTrial, *, metric: str) -> float | None:
    """Return a trial's best epoch's metric, pruned or not, or None where no finite one was reported.

    A pruned trial's own value is its last report, which may lie below what it had reached.
    """
    kept = trial.value if trial.state == TrialState.COMPLETE else trial.user_attrs.get(BEST_VALUE)
    if isinstance(kept, int | float) and math.isfinite(kept):
        return float(kept)
    reported = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    if not reported:
        return None
    return min(reported) if direction_of(metric) == "minimize" else max(reported)


def _row(trial: FrozenTrial, parameters: Sequence[Parameter], metric: str) -> TrialRow:
    reported = _finite(trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
    kept = trial.user_attrs.get(CURVES) or {}
    curves = {name: _finite(curve) for name, curve in kept.items()}
    return TrialRow(
        number=trial.number,
        state=_STATES[trial.state],
        value=best_reached(trial, metric=metric),
        best_epoch=trial.user_attrs.get(BEST_EPOCH),
        curve=curves.get(metric, reported),
        curves=curves,
        seconds=trial.user_attrs.get(TRAIN_SECONDS),
        diverged=bool(trial.user_attrs.get(DIVERGED)),
        inherited=PARENT_TRIAL in trial.user_attrs,
        hyperparameters={
            parameter.name: parameter.value(trial.params[parameter.parameter])
            for parameter in parameters
            if parameter.parameter in trial.params
        },
        fail_reason=trial.user_attrs.get(FAIL_REASON),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _finite(curve: Iterable[float]) -> tuple[float, ...]:
    """Return a curve up to its first value that is no number: where another program reported one, it had diverged."""
    return tuple(itertools.takewhile(math.isfinite, curve))
