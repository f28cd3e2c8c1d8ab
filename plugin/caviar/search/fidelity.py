"""What TPE is shown of trials that were trained for different numbers of epochs.

Under promotion most trials pause early. Optuna's TPE learns only from complete and pruned ones, so it would ignore
most, and a value after few epochs cannot be compared with one after many. As in BOHB, trials are therefore compared
after the most epochs that enough of them have reached; the others count as pruned, which TPE ranks behind.

Source:
    Falkner, Klein, Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018.
"""

import copy
import math
from collections.abc import Sequence
from typing import Final

from optuna.trial import FrozenTrial, TrialState

from ..attributes import DIVERGED
from ..metrics import Direction

MIN_COMPARED: Final = 20  # trials that must have reached the epochs after which all are compared


def comparable_trials(trials: Sequence[FrozenTrial], direction: Direction) -> list[FrozenTrial]:
    """Return trials for TPE to learn from, as if they had been trained equally long.

    They are compared after the most epochs (steps) that at least ``MIN_COMPARED`` of them have reached, running ones
    included, or if fewer have a result after those that all of them have reached.

    Returns:
        Shallow copies. A trial that has come that far is COMPLETE with its best value by then. Of the others, a running
        one keeps its state, so that TPE draws elsewhere, and one that was paused, pruned or has diverged is PRUNED.
        Failed trials, and waiting ones without a result, are left out.
    """
    epochs = _epochs_compared(trials)
    shown_trials = []
    for trial in trials:
        if trial.state == TrialState.FAIL or (trial.state == TrialState.WAITING and trial.last_step is None):
            continue
        shown, value = copy.copy(trial), _best_by(epochs, trial, direction)
        if value is not None:
            shown.state, shown.values, shown.intermediate_values = TrialState.COMPLETE, [value], {}
        elif trial.state != TrialState.RUNNING:
            shown.state, shown.values = TrialState.PRUNED, None
        shown.datetime_complete = trial.datetime_complete or trial.datetime_start
        shown_trials.append(shown)
    return shown_trials


def _epochs_compared(trials: Sequence[FrozenTrial]) -> int:
    steps = sorted({trial.last_step for trial in trials if trial.last_step is not None}, reverse=True)
    for step in steps:
        if sum(_has_reached(step, trial) for trial in trials) >= MIN_COMPARED:
            return step
    return steps[-1] if steps else 0


def _has_reached(step: int, trial: FrozenTrial) -> bool:
    """Tell whether a trial has a value to compare at a step; a complete trial always has one, its last."""
    if trial.state == TrialState.FAIL or trial.user_attrs.get(DIVERGED):
        return False
    return trial.state == TrialState.COMPLETE or (trial.last_step is not None and trial.last_step >= step)


def _best_by(step: int, trial: FrozenTrial, direction: Direction) -> float | None:
    """Return a trial's best value up to a step, or None if it has not reached the step."""
    if not _has_reached(step, trial):
        return None
    if trial.state == TrialState.COMPLETE and (trial.last_step is None or trial.last_step <= step):
        return trial.value
    return direction.best(
        value for at, value in trial.intermediate_values.items() if at <= step and math.isfinite(value)
    )
