"""Trials as the report shows them: one value each, pruned ones included."""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ..attributes import (
    BEST_EPOCH,
    BEST_VALUE,
    CURVES,
    DIVERGED,
    FAIL_REASON,
    PARENT_TRIAL,
    TRAIN_SECONDS,
)
from ..interventions import Intervention, interventions_of
from ..metrics import direction_of
from ..parameters import Parameter
from ..space import SearchSpace

#: What a ``TrialRow``'s state can be.
STATES = ("complete", "pruned", "failed", "running", "waiting")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial.

    ``value`` is the metric of its best epoch, counted from 0, also for a pruned trial; None if it reported nothing.
    ``curve`` is the metric, epoch by epoch; ``curves`` has every stored one by its name. ``seconds`` were spent on
    building, compiling and training. An ``inherited`` trial was copied from the parent study, and so cost nothing here.
    The ``interventions`` are what was changed by hand, in order. ``hyperparameters`` are what was drawn, by the names
    that the user knows (``momentum``, ``units_2``).
    """

    number: int
    state: str
    value: float | None
    best_epoch: int | None
    curve: tuple[float, ...]
    curves: Mapping[str, tuple[float, ...]]
    seconds: float | None
    diverged: bool
    inherited: bool
    interventions: tuple[Intervention, ...] = ()
    hyperparameters: Mapping[str, Any]
    fail_reason: str | None
    started: datetime.datetime | None
    ended: datetime.datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether it counts towards the budget: complete or pruned."""
        return self.state in ("complete", "pruned")


def drawn_parameters(space: SearchSpace) -> tuple[Parameter, ...]:
    """Return a parameter for everything that Optuna stores of a space, including the widths of single layers."""
    known = {parameter.parameter: parameter for parameter in space.parameters}
    return tuple(known.get(name) or dataclasses.replace(known["units"], name=name) for name in space.distributions())


def drawn_values(trial: FrozenTrial, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the hyperparameters that a trial drew, by the names that the user knows."""
    return {p.name: p.value(trial.params[p.parameter]) for p in parameters if p.parameter in trial.params}


def trial_rows(trials: Iterable[FrozenTrial], parameters: Sequence[Parameter], *, metric: str) -> list[TrialRow]:
    """Return a row for each trial, ordered by number; the parameters are those of ``drawn_parameters``."""
    return [_row(trial, parameters, metric) for trial in sorted(trials, key=lambda trial: trial.number)]


def best_rows(rows: Iterable[TrialRow], *, metric: str) -> list[TrialRow]:
    """Return the complete trials, best first; of equal ones the earlier first, as Optuna has it."""
    valued = [(row.value, row) for row in rows if row.state == "complete" and row.value is not None]
    return [row for _, row in sorted(valued, key=lambda one: (direction_of(metric).cost(one[0]), one[1].number))]


def best_reached(trial: FrozenTrial, *, metric: str) -> float | None:
    """Return the metric of a trial's best epoch, pruned or not, or None if it reported no finite value.

    A pruned trial's own value is its last report, which may be worse than what it had reached.
    """
    kept = trial.value if trial.state == TrialState.COMPLETE else trial.user_attrs.get(BEST_VALUE)
    if isinstance(kept, int | float) and math.isfinite(kept):
        return float(kept)
    return direction_of(metric).best(value for value in trial.intermediate_values.values() if math.isfinite(value))


def _row(trial: FrozenTrial, parameters: Sequence[Parameter], metric: str) -> TrialRow:
    reported = _finite(trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
    curves = {name: _finite(curve) for name, curve in (trial.user_attrs.get(CURVES) or {}).items()}
    return TrialRow(
        number=trial.number,
        state="failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
        value=best_reached(trial, metric=metric),
        best_epoch=trial.user_attrs.get(BEST_EPOCH),
        curve=curves.get(metric, reported),
        curves=curves,
        seconds=trial.user_attrs.get(TRAIN_SECONDS),
        diverged=bool(trial.user_attrs.get(DIVERGED)),
        inherited=PARENT_TRIAL in trial.user_attrs,
        interventions=tuple(interventions_of(trial.user_attrs)),
        hyperparameters=drawn_values(trial, parameters),
        fail_reason=trial.user_attrs.get(FAIL_REASON),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _finite(curve: Iterable[float]) -> tuple[float, ...]:
    """Return a curve up to its first value that is not finite: another program reports one when training diverged."""
    return tuple(itertools.takewhile(math.isfinite, curve))
