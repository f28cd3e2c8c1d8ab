"""Asynchronous successive halving with promotion: which trial trains on, which one pauses, which paused one goes on.

A rung is a number of epochs at which a trial is judged. It trains on if it is among the best 1/η of all that ever
reached the rung. If not, it pauses with a checkpoint, and may be promoted once enough others have reached the rung and
done worse. Optuna's pruners can only stop a trial, so they must judge the first arrivals without knowing the rest.

Nothing here reads a clock, a storage or a network: a worker shows it the stored trials, and acts on its answers.
"""

import bisect
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from ..attributes import DIVERGED, HELD, PARENT_TRIAL, PAUSED
from ..errors import SpecError
from ..interventions import was_changed
from ..metrics import Direction

MAX_PARKED = 32  # paused trials that keep their checkpoint, each of which holds a whole network


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromotionRule:
    """When a trial is judged, and how many go on; raises SpecError if a number is outside its range.

    Example:
        >>> PromotionRule(max_epochs=52, min_epochs=2, reduction=3).rungs
        (2, 6, 18)
    """

    max_epochs: int  # of a whole training
    min_epochs: int = 1  # the first rung, late enough to tell networks apart: see benchmarks/search.py
    reduction: int = 3  # η, at least 2: one in η trials goes on at a rung, and the next rung is η times as far

    def __post_init__(self) -> None:
        if not 1 <= self.min_epochs <= self.max_epochs:
            raise SpecError(
                f"min_epochs must be at least 1 and at most the {self.max_epochs} epochs of a whole training, but got "
                f"{self.min_epochs}."
            )
        if self.reduction < 2:
            raise SpecError(f"reduction must be at least 2, but got {self.reduction}: one in so many trials goes on.")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which a trial is judged, ascending, all below ``max_epochs``."""
        rungs = []
        epochs = self.min_epochs
        while epochs < self.max_epochs:
            rungs.append(epochs)
            epochs *= self.reduction
        return tuple(rungs)

    def quota(self, n_results: int, *, closing: bool = False) -> int:
        """Return how many of a rung's results go on; at least the best, if no new trial will come (``closing``)."""
        return max(n_results // self.reduction, min(n_results, 1) if closing else 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """What is known of one trial."""

    number: int
    curve: Sequence[float]  # the metric by epoch, from the first; a value that is not finite is worse than any other
    state: Literal["running", "paused", "ended"]  # on a worker, parked with a checkpoint, or never trained again
    diverged: bool = False  # its loss became NaN or infinite: it is never promoted, and the worst at every rung
    stopped_early: bool = False  # it ended early since it no longer improved: its best value counts at every rung


class Rungs:
    """What every trial of a study reached at every rung, and the decisions that follow from it.

    A worker keeps one and shows it each change; the order does not matter.
    """

    def __init__(self, rule: PromotionRule, *, direction: Direction = Direction.MAXIMIZE) -> None:
        self.rule = rule
        self._direction = direction
        self._trials: dict[int, TrialProgress] = {}
        self._ranked: list[list[tuple[float, int]]] = [[] for _ in rule.rungs]  # best first: (cost, number)
        self._costs: list[dict[int, float]] = [{} for _ in rule.rungs]
        self._paused: dict[int, int] = {}  # number → the rung at which it waits

    def show(self, trial: TrialProgress) -> None:
        """Take in what is now known of a trial, in place of what was known before."""
        self._trials[trial.number] = trial
        self._paused.pop(trial.number, None)
        for rung, epochs in enumerate(self.rule.rungs):
            cost = self._cost(trial, epochs)
            if self._costs[rung].get(trial.number) != cost:
                self._set_cost(rung, trial.number, cost)
        n_passed = bisect.bisect_right(self.rule.rungs, len(trial.curve))
        if trial.state == "paused" and not trial.diverged and n_passed:
            self._paused[trial.number] = n_passed - 1

    def forget(self, number: int) -> None:
        """Take out a trial that failed, whether or not it was ever shown."""
        self._trials.pop(number, None)
        self._paused.pop(number, None)
        for rung in range(len(self._ranked)):
            self._set_cost(rung, number, None)

    def goes_on(self, number: int) -> bool:
        """Tell whether a running trial, which was shown before, trains on, as all do between two rungs.

        If not, it must be paused, or is complete: after its last epoch.
        """
        trial = self._trials[number]
        epochs = len(trial.curve)
        if trial.diverged or trial.state == "ended" or epochs >= self.rule.max_epochs:
            return False
        if epochs not in self.rule.rungs:
            return True
        rung = self.rule.rungs.index(epochs)
        return self._rank(rung, number) < self.rule.quota(len(self._ranked[rung]))

    def next_promotion(self, *, closing: bool = False) -> int | None:
        """Return the paused trial that a free worker should resume rather than start a new one, or None.

        It is the best of the highest rung that has one to promote. If no new trial will be started (``closing``), every
        rung may send on its best, whatever its share.
        """
        for rung in reversed(range(len(self._ranked))):
            quota = self.rule.quota(len(self._ranked[rung]), closing=closing)
            for cost, number in self._ranked[rung][:quota]:
                if self._paused.get(number) == rung and math.isfinite(cost):
                    return number
        return None

    def surplus(self, *, max_parked: int = MAX_PARKED) -> list[int]:
        """Return the paused trials beyond ``max_parked`` to end as PRUNED, the least likely to be promoted first.

        A trial of rank r (from 1) at a rung with n results is promoted once n ≥ η·r.
        """

        def wait(number: int) -> tuple[float, int]:
            rung = self._paused[number]
            return (self._rank(rung, number) + 1) / len(self._ranked[rung]), -rung

        paused = [trial.number for trial in self._trials.values() if trial.state == "paused"]
        hopeless = [number for number in paused if number not in self._paused]
        return [*hopeless, *reversed(sorted(self._paused, key=wait)[max_parked:])]

    def _cost(self, trial: TrialProgress, epochs: int) -> float | None:
        """Return a trial's result at a rung, smaller being better; None if it did not reach the rung."""
        if trial.diverged:
            return math.inf
        if len(trial.curve) < epochs and not trial.stopped_early:
            return None
        costs = [self._direction.cost(value) for value in trial.curve[:epochs] if math.isfinite(value)]
        return min(costs, default=math.inf)

    def _rank(self, rung: int, number: int) -> int:
        return bisect.bisect_left(self._ranked[rung], (self._costs[rung][number], number))

    def _set_cost(self, rung: int, number: int, cost: float | None) -> None:
        before = self._costs[rung].pop(number, None)
        if before is not None:
            self._ranked[rung].remove((before, number))
        if cost is not None:
            self._costs[rung][number] = cost
            bisect.insort(self._ranked[rung], (cost, number))


def counts_at_rungs(trial: FrozenTrial) -> bool:
    """Tell whether a stored trial is compared with others: a failed one is not, nor one that was changed by hand.

    Neither is a copy from a wider study: most trials there are worse, so every new one would go on.
    """
    return trial.state != TrialState.FAIL and PARENT_TRIAL not in trial.user_attrs and not was_changed(trial.user_attrs)


def is_paused(trial: FrozenTrial) -> bool:
    """Tell whether a stored trial is paused until it is promoted."""
    return trial.state == TrialState.WAITING and PAUSED in trial.system_attrs and HELD not in trial.system_attrs


def is_held(trial: FrozenTrial) -> bool:
    """Tell whether a stored trial was paused by hand, until somebody resumes it."""
    return trial.state == TrialState.WAITING and HELD in trial.system_attrs


def progress_of(trial: FrozenTrial, *, max_epochs: int) -> TrialProgress:
    """Return how far a stored trial has come; its steps are epochs from 0.

    One that a dead worker handed back counts as running, since whoever claims it goes on with it.
    """
    steps = trial.intermediate_values
    curve = [steps.get(step, math.nan) for step in range(max(steps, default=-1) + 1)]
    return TrialProgress(
        number=trial.number,
        curve=curve,
        state="ended" if trial.state.is_finished() else "paused" if is_paused(trial) else "running",
        diverged=bool(trial.user_attrs.get(DIVERGED)),
        stopped_early=trial.state == TrialState.COMPLETE and len(curve) < max_epochs,
    )
