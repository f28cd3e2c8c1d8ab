"""Searches compared at equal cost: best so far by epochs trained, its spread over repeats, a paired test.

Searches with the same repeat share the seed, and so the split of the data: they are pairs.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..parameters import ChoiceParameter, Parameter

#: Points at which the spread over repeats is read off; more are not seen on a screen.
_MAX_POINTS = 200
#: p below which the words speak of a difference.
SIGNIFICANCE = 0.05
_EXACT_SIGN_FLIPS = 2**13


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaidTrial:
    """One trial, with what it cost.

    Attributes:
        epochs: Epochs that it reported, at least 0.
        value: Its best epoch's metric if it is complete; None for a pruned or failed one, which is no result.
        hyperparameters: What was drawn, by the names that the user thinks of.
    """

    epochs: int
    value: float | None
    hyperparameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """One search: a sampler with a seed.

    Attributes:
        sampler: Its name in the comparison.
        repeat: From 0; searches of the same repeat are a pair.
        studies: The studies that hold it: one or, of a zoom, one a stage.
        trials: In the order in which they were begun.
    """

    sampler: str
    repeat: int
    studies: tuple[str, ...]
    trials: tuple[PaidTrial, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestSoFar:
    """A step curve: after ``epochs[i]`` epochs the best complete trial has ``values[i]``.

    Attributes:
        epochs: Where it improves, strictly ascending; empty where no trial was completed.
        values: What it improves to.
    """

    epochs: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def final(self) -> float | None:
        """The last value, or None without one."""
        return self.values[-1] if self.values else None

    def at(self, epochs: float) -> float:
        """Return the best after so many epochs; NaN before the first complete trial."""
        index = int(np.searchsorted(self.epochs, epochs, side="right")) - 1
        return self.values[index] if index >= 0 else math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """The spread of best-so-far curves over repeats.

    Attributes:
        epochs: Ascending; from where every repeat has a complete trial.
        median: Of the repeats.
        low: Their lower quartile.
        high: Their upper quartile.
    """

    epochs: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A sampler against another, repeat by repeat.

    Attributes:
        n: Pairs in which both have a result.
        wins: Pairs in which the first is strictly better.
        losses: In which it is strictly worse.
        p: Two-sided, of Wilcoxon's signed-rank test; None where no outcome could fall below ``SIGNIFICANCE``.
    """

    n: int
    wins: int
    losses: int
    p: float | None


def within_budget(trials: Sequence[PaidTrial], budget_epochs: int) -> tuple[PaidTrial, ...]:
    """Return the trials that end within a budget when trained one after another, in this order."""
    kept: list[PaidTrial] = []
    spent = 0
    for trial in trials:
        spent += trial.epochs
        if spent > budget_epochs:
            break
        kept.append(trial)
    return tuple(kept)


def best_so_far(trials: Sequence[PaidTrial], *, budget_epochs: int, maximize: bool) -> BestSoFar:
    """Return a search's best value by epochs trained, up to a budget.

    The trials are laid end to end in their order, as if one were trained after another; a trial's value counts from
    its end. Trials that fail or are pruned cost their epochs and bring no value.

    Args:
        trials: In the order in which they were begun.
        budget_epochs: Epochs beyond which nothing counts.
        maximize: Whether larger is better.
    """
    steps: list[tuple[int, float]] = []
    spent = 0
    for trial in within_budget(trials, budget_epochs):
        spent += trial.epochs
        if trial.value is not None and (not steps or _better(trial.value, steps[-1][1], maximize=maximize)):
            if steps and steps[-1][0] == spent:
                steps.pop()
            steps.append((spent, trial.value))
    return BestSoFar(epochs=tuple(at for at, _ in steps), values=tuple(value for _, value in steps))


def spread(curves: Sequence[BestSoFar], *, budget_epochs: int) -> Band | None:
    """Return the median and the quartiles over repeats, from where every repeat has a value; None where one never has.

    Args:
        curves: One a repeat, at least one.
        budget_epochs: Where the band ends.
    """
    if any(not curve.epochs for curve in curves):
        return None
    start = max(curve.epochs[0] for curve in curves)
    steps = sorted({at for curve in curves for at in curve.epochs if at > start})
    if len(steps) > _MAX_POINTS:
        steps = sorted({round(at) for at in np.linspace(start, budget_epochs, _MAX_POINTS)} - {start})
    at = [float(point) for point in (start, *steps)]
    if at[-1] < budget_epochs:
        at.append(float(budget_epochs))
    values = np.array([[curve.at(point) for point in at] for curve in curves])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    return Band(epochs=tuple(at), median=tuple(median.tolist()), low=tuple(low.tolist()), high=tuple(high.tolist()))


def paired_test(finals: Sequence[float | None], against: Sequence[float | None], *, maximize: bool) -> PairedTest:
    """Compare two samplers' final bests, repeat by repeat.

    Wilcoxon's signed-rank test over all sign flips where there are at most 13 differences, so that equal ones, frequent
    among accuracies of small validation splits, are no approximation; pairs without a difference are left out.

    Args:
        finals: By repeat; None where a search completed no trial.
        against: The other's, of the same length.
        maximize: Whether larger is better.

    Source:
        Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, section 3.1.3.
    """
    pairs = [(one, other) for one, other in zip(finals, against, strict=True) if one is not None and other is not None]
    differences = [one - other if maximize else other - one for one, other in pairs]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = None
    if smallest_p(len(pairs)) < SIGNIFICANCE:
        p = _wilcoxon([d for d in differences if d])
    return PairedTest(n=len(pairs), wins=wins, losses=losses, p=p)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a paired test of so many pairs can give: all of them won."""
    return min(1.0, 2.0 ** (1 - n))


def repeats_needed() -> int:
    """Return how many repeats a paired test needs before any outcome falls below ``SIGNIFICANCE``: 6 for 0.05."""
    return next(n for n in range(1, 100) if smallest_p(n) < SIGNIFICANCE)


def distinct_values(trials: Sequence[PaidTrial], names: Sequence[str]) -> dict[str, int]:
    """Return how many different values of each hyperparameter were tried."""
    return {name: len({t.hyperparameters[name] for t in trials if name in t.hyperparameters}) for name in names}


def most_important(parameters: Sequence[Parameter]) -> Sequence[Parameter]:
    """Return the two ranges, or fewer, that the course ranks first, in the space's order within a tier."""
    ranges = [parameter for parameter in parameters if not isinstance(parameter, ChoiceParameter)]
    return sorted(ranges, key=lambda parameter: parameter.tier)[:2]


def _wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p of differences other than 0; 1 for one or none, which says nothing."""
    if len(differences) < 2:
        return 1.0
    from scipy import stats

    if 2 ** len(differences) <= _EXACT_SIGN_FLIPS:
        method: Any = stats.PermutationMethod(n_resamples=_EXACT_SIGN_FLIPS)
    else:
        method = "asymptotic"
    return float(stats.wilcoxon(differences, method=method).pvalue)


def _better(value: float, than: float, *, maximize: bool) -> bool:
    return value > than if maximize else value < than
