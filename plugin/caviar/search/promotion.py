"""Asynchronous successive halving with promotion: which trial trains on, which one pauses, which paused one goes on.

A rung is a number of epochs at which a trial is judged. At a rung a trial trains on if it is among the best 1/η of all
that ever reached it; if not it pauses, with a checkpoint, and may be promoted later, when enough others have reached
the rung and done worse. Optuna's pruners, which can only stop, must judge the first arrivals without knowing the rest.

Nothing here reads a clock, a storage or a network: a worker shows what is stored, and does what is answered.
"""

import bisect
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from ..attributes import DIVERGED, PARENT_TRIAL, PAUSED
from ..errors import SpecError

#: Paused trials that keep their checkpoint; a checkpoint holds a whole network.
MAX_PARKED = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromotionRule:
    """When a trial is judged, and how many go on.

    Attributes:
        max_epochs: Epochs of a whole training.
        min_epochs: The first rung. Trials are never judged before, so it should be late enough for a network to show
            something: see benchmarks/search.py for the choice.
        reduction: η: one in so many goes on at a rung, and the next rung is so many times as long; at least 2.

    Raises:
        SpecError: If a number is outside its range.

    Example:
        >>> PromotionRule(max_epochs=52, min_epochs=2, reduction=3).rungs
        (2, 6, 18)
    """

    max_epochs: int
    min_epochs: int = 1
    reduction: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_epochs <= self.max_epochs:
            raise SpecError(
                f"min_epochs must be at least 1 and at most the {self.max_epochs} epochs of a whole training, but got "
                f"{self.min_epochs}."
            )
        if self.reduction < 2:
            raise SpecError(f"reduction must be at least 2, but got {self.reduction}: one in so many goes on.")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which a trial is judged, ascending, all below ``max_epochs``."""
        rungs = []
        epochs = self.min_epochs
        while epochs < self.max_epochs:
            rungs.append(epochs)
            epochs *= self.reduction
        return tuple(rungs)

    @property
    def mean_epochs(self) -> float:
        """Epochs that a trial costs on average, where as many go on at each rung as its share allows."""
        ends = (*self.rungs, self.max_epochs)
        begins = (0, *self.rungs)
        return sum(
            (end - begin) / float(self.reduction**rung)
            for rung, (begin, end) in enumerate(zip(begins, ends, strict=True))
        )

    def quota(self, n_results: int, *, closing: bool = False) -> int:
        """Return how many of a rung's results go on.

        Args:
            n_results: Trials that reached the rung, at least 0.
            closing: No new trial will come; then every rung sends on its best, so that one trial is trained whole.
        """
        return max(n_results // self.reduction, min(n_results, 1) if closing else 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """What is known of one trial.

    Attributes:
        number: Its number in the study.
        curve: The metric to optimise by epoch, from the first; a value that is not finite is worse than any other.
        state: ``running``: on a worker; ``paused``: parked with a checkpoint; ``ended``: never trained again.
        diverged: Its training broke down: it is never promoted, and the worst at every rung.
        stopped_early: It ended before ``max_epochs`` since it no longer improved: it has its best value at every rung.
    """

    number: int
    curve: Sequence[float]
    state: Literal["running", "paused", "ended"]
    diverged: bool = False
    stopped_early: bool = False


class Rungs:
    """What every trial of a study reached at every rung, and the decisions that follow from it.

    A worker makes one from the stored trials (``rungs_of``) whenever lanes stand at a rung or it is free, under the
    lock that its claim takes anyway, or keeps one and shows it each change. The order of showing does not matter.

    Args:
        rule: The rungs and the share that goes on.
        minimize: Whether small values are good.
    """

    def __init__(self, rule: PromotionRule, *, minimize: bool = False) -> None:
        self.rule = rule
        self._sign = 1.0 if minimize else -1.0
        self._trials: dict[int, TrialProgress] = {}
        self._ranked: list[list[tuple[float, int]]] = [[] for _ in rule.rungs]  # best first: (cost, number)
        self._costs: list[dict[int, float]] = [{} for _ in rule.rungs]
        self._paused: dict[int, int] = {}  # number → the rung at which it waits

    def show(self, trial: TrialProgress) -> None:
        """Take in what is now known of a trial; it replaces what was known before."""
        self._trials[trial.number] = trial
        self._paused.pop(trial.number, None)
        for rung, epochs in enumerate(self.rule.rungs):
            cost = self._cost(trial, epochs)
            if self._costs[rung].get(trial.number) != cost:
                self._set_cost(rung, trial.number, cost)
        reached = self._last_rung(trial)
        if trial.state == "paused" and not trial.diverged and reached is not None:
            self._paused[trial.number] = reached

    def forget(self, number: int) -> None:
        """Take a trial out that failed; one that was never shown is none."""
        self._trials.pop(number, None)
        self._paused.pop(number, None)
        for rung in range(len(self._ranked)):
            self._set_cost(rung, number, None)

    def goes_on(self, number: int) -> bool:
        """Tell whether a running trial trains on after the epochs that it has done; if not, it is to be paused.

        Between two rungs every trial trains on, and at its last epoch none does: it is complete.

        Raises:
            KeyError: If the trial was never shown.
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
        """Return the paused trial that a free worker should go on with, rather than start a new one.

        Args:
            closing: No new trial will be started: every rung may then send on its best, whatever its share.

        Returns:
            The best of the highest rung that has one to promote, or None.
        """
        for rung in reversed(range(len(self._ranked))):
            quota = self.rule.quota(len(self._ranked[rung]), closing=closing)
            for cost, number in self._ranked[rung][:quota]:
                if self._paused.get(number) == rung and math.isfinite(cost):
                    return number
        return None

    def surplus(self, *, max_parked: int = MAX_PARKED) -> list[int]:
        """Return the paused trials to be told PRUNED, the most hopeless first.

        Hope is how soon a promotion comes: a trial of rank r (from 1) at a rung of n results goes on once n ≥ η·r.

        Args:
            max_parked: Paused trials that stay; 0 when the budget is spent.
        """

        def wait(number: int) -> tuple[float, int]:
            rung = self._paused[number]
            return (self._rank(rung, number) + 1) / len(self._ranked[rung]), -rung

        hopeless = [trial.number for trial in self._trials.values() if self._is_hopeless(trial)]
        return [*hopeless, *reversed(sorted(self._paused, key=wait)[max_parked:])]

    @property
    def n_parked(self) -> int:
        """Paused trials that may be promoted."""
        return len(self._paused)

    def _is_hopeless(self, trial: TrialProgress) -> bool:
        return trial.state == "paused" and trial.number not in self._paused

    def _cost(self, trial: TrialProgress, epochs: int) -> float | None:
        """Return what counts as a trial's result at a rung, smaller being better; None if it did not reach it."""
        if trial.diverged:
            return math.inf
        if len(trial.curve) < epochs and not trial.stopped_early:
            return None
        costs = [self._sign * value for value in trial.curve[:epochs] if math.isfinite(value)]
        return min(costs, default=math.inf)

    def _last_rung(self, trial: TrialProgress) -> int | None:
        passed = bisect.bisect_right(self.rule.rungs, len(trial.curve))
        return passed - 1 if passed else None

    def _rank(self, rung: int, number: int) -> int:
        return bisect.bisect_left(self._ranked[rung], (self._costs[rung][number], number))

    def _set_cost(self, rung: int, number: int, cost: float | None) -> None:
        before = self._costs[rung].pop(number, None)
        if before is not None:
            self._ranked[rung].remove((before, number))
        if cost is not None:
            self._costs[rung][number] = cost
            bisect.insort(self._ranked[rung], (cost, number))


def rungs_of(trials: Iterable[FrozenTrial], rule: PromotionRule, *, minimize: bool = False) -> Rungs:
    """Return the rungs of a study from its stored trials.

    Args:
        trials: Of one study; steps are epochs from 0. A WAITING trial is paused if storage marks it so; one that was
            handed back by a dead worker counts as running, since whoever claims it goes on with it. Copies from a wider
            study do not count: most there is worse, so everything new would go on.
        rule: The rungs and the share that goes on.
        minimize: Whether small values are good.
    """
    rungs = Rungs(rule, minimize=minimize)
    for trial in trials:
        if counts_at_rungs(trial):
            rungs.show(progress_of(trial, max_epochs=rule.max_epochs))
    return rungs


def counts_at_rungs(trial: FrozenTrial) -> bool:
    """Tell whether a stored trial is compared with others: neither a failed one nor a copy from a wider study is."""
    return trial.state != TrialState.FAIL and PARENT_TRIAL not in trial.user_attrs


def is_paused(trial: FrozenTrial) -> bool:
    """Tell whether a stored trial waits for its promotion."""
    return trial.state == TrialState.WAITING and PAUSED in trial.system_attrs


def progress_of(trial: FrozenTrial, *, max_epochs: int) -> TrialProgress:
    """Return what a stored trial says of its progress; its steps are epochs from 0."""
    steps = trial.intermediate_values
    curve = [steps.get(step, math.nan) for step in range(max(steps, default=-1) + 1)]
    return TrialProgress(
        number=trial.number,
        curve=curve,
        state="ended" if trial.state.is_finished() else "paused" if is_paused(trial) else "running",
        diverged=bool(trial.user_attrs.get(DIVERGED)),
        stopped_early=trial.state == TrialState.COMPLETE and len(curve) < max_epochs,
    )
