"""Searches compared at equal cost: best so far by epochs trained, its spread over repeats, a paired test.

Searches of the same repeat share the seed, and so the split of the data: they are pairs.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..parameters import ChoiceParameter, Parameter

#: Points at which the spread over repeats is read off; a screen shows no more.
_MAX_POINTS = 200
#: Only a p below this counts as a difference.
SIGNIFICANCE = 0.05
_EXACT_SIGN_FLIPS = 2**13


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaidTrial:
    """One trial, with the epochs that it cost, and what it drew, by the names that the user knows.

    ``value`` is the metric of its best epoch if it is complete; None for a pruned or failed one, which has no result.
    """

    epochs: int
    value: float | None
    hyperparameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """One search of a comparison: a sampler with the seed of a repeat, and its study's trials as they were started."""

    sampler: str
    repeat: int
    study: str
    trials: tuple[PaidTrial, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestSoFar:
    """A step curve: after ``epochs[i]`` epochs, strictly ascending, the best complete trial has ``values[i]``."""

    epochs: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def final(self) -> float | None:
        """The last value, or None if no trial was completed."""
        return self.values[-1] if self.values else None

    def at(self, epochs: float) -> float:
        """Return the best after so many epochs, or NaN before the first complete trial."""
        index = int(np.searchsorted(self.epochs, epochs, side="right")) - 1
        return self.values[index] if index >= 0 else math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedTest:
    """One sampler against another, in the ``n`` repeats in which both have a result.

    In ``wins`` the first is strictly better, in ``losses`` strictly worse. ``p`` is two-sided, of Wilcoxon's
    signed-rank test; None if so few pairs can never be below ``SIGNIFICANCE``.
    """

    n: int
    wins: int
    losses: int
    p: float | None


def within_budget(trials: Sequence[PaidTrial], budget_epochs: int) -> tuple[PaidTrial, ...]:
    """Return the trials that end within a budget if they are trained one after another, in this order."""
    spent = itertools.accumulate(trial.epochs for trial in trials)
    return tuple(trial for trial, so_far in zip(trials, spent, strict=True) if so_far <= budget_epochs)


def best_so_far(trials: Sequence[PaidTrial], *, budget_epochs: int, maximize: bool) -> BestSoFar:
    """Return a search's best value by epochs trained, up to a budget.

    The trials count as if trained one after another, and a trial's value counts from its end. Trials that fail or are
    pruned cost their epochs and bring no value.
    """
    kept = within_budget(trials, budget_epochs)
    sign = 1 if maximize else -1
    steps: dict[int, float] = {}
    best = -sign * math.inf
    for trial, spent in zip(kept, itertools.accumulate(trial.epochs for trial in kept), strict=True):
        if trial.value is not None and sign * trial.value > sign * best:
            best = steps[spent] = trial.value
    return BestSoFar(epochs=tuple(steps), values=tuple(steps.values()))


def spread(curves: Sequence[BestSoFar], *, budget_epochs: int) -> dict[str, list[float]] | None:
    """Return the spread of best-so-far curves over repeats: ``epochs``, ``median``, and quartiles ``low`` and ``high``.

    It begins where every repeat has a complete trial, and ends at the budget; None if a repeat has none.
    """
    if any(not curve.epochs for curve in curves):
        return None
    start = max(curve.epochs[0] for curve in curves)
    steps = {at for curve in curves for at in curve.epochs if at > start}
    if len(steps) > _MAX_POINTS:
        steps = {round(at) for at in np.linspace(start, budget_epochs, _MAX_POINTS)}
    epochs = [float(at) for at in sorted(steps | {start, budget_epochs})]
    values = np.array([[curve.at(at) for at in epochs] for curve in curves])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0).tolist()
    return {"epochs": epochs, "median": median, "low": low, "high": high}


def paired_test(finals: Sequence[float | None], against: Sequence[float | None], *, maximize: bool) -> PairedTest:
    """Compare two samplers' final bests, repeat by repeat.

    Wilcoxon's signed-rank test leaves out pairs without a difference. Up to 13 differences it runs over all sign flips:
    ties, which are frequent among accuracies on small validation splits, would make its usual tables an approximation.

    Both have a value for each repeat, None if the search completed no trial.

    Source:
        Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, section 3.1.3.
    """
    pairs = [(one, other) for one, other in zip(finals, against, strict=True) if one is not None and other is not None]
    differences = [one - other if maximize else other - one for one, other in pairs]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = _wilcoxon([d for d in differences if d]) if smallest_p(len(pairs)) < SIGNIFICANCE else None
    return PairedTest(n=len(pairs), wins=wins, losses=losses, p=p)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a paired test of so many pairs can give: that of winning all."""
    return min(1.0, 2.0 ** (1 - n))


def repeats_needed() -> int:
    """Return how many repeats a paired test needs before any outcome is below ``SIGNIFICANCE``: 6 for 0.05."""
    return next(n for n in range(1, 100) if smallest_p(n) < SIGNIFICANCE)


def distinct_values(trials: Sequence[PaidTrial], names: Sequence[str]) -> dict[str, int]:
    """Return how many different values of each hyperparameter were tried."""
    return {name: len({t.hyperparameters[name] for t in trials if name in t.hyperparameters}) for name in names}


def most_important(parameters: Sequence[Parameter]) -> Sequence[Parameter]:
    """Return the two numeric parameters, or fewer, that the course ranks first; within a tier in the space's order."""
    ranges = [parameter for parameter in parameters if not isinstance(parameter, ChoiceParameter)]
    return sorted(ranges, key=lambda parameter: parameter.tier)[:2]


def _wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p of differences other than 0; it is 1 for one or none, which say nothing."""
    if len(differences) < 2:
        return 1.0
    from scipy import stats

    is_exact = 2 ** len(differences) <= _EXACT_SIGN_FLIPS
    method = stats.PermutationMethod(n_resamples=_EXACT_SIGN_FLIPS) if is_exact else "asymptotic"
    return float(stats.wilcoxon(differences, method=method).pvalue)
