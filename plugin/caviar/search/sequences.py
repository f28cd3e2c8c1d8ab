"""Samplers that walk one fixed sequence of points: trial n takes point n, on whichever worker it runs.

Optuna's own grid raises on enqueued trials and on exhaustion under ask and tell, and its quasi-Monte Carlo sampler
counts its points in a study attribute, which workers race for.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from ..attributes import RETRY_HISTORY
from ..errors import SpecError

#: Points of the largest grid: its order is kept in memory, in 80 MB.
MAX_GRID = 10_000_000


def value_at(distribution: BaseDistribution, position: float) -> Any:
    """Return the value at a position of a parameter's range, on its own scale.

    Args:
        distribution: The parameter's.
        position: In [0, 1): 0 is the low end or the first choice. Whole numbers and choices share it equally.

    Example:
        >>> value_at(FloatDistribution(1e-4, 1.0, log=True), 0.5)
        0.01
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(position * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low - 0.5, distribution.high + 0.5
        return min(max(round(_between(low, high, position, log=distribution.log)), distribution.low), distribution.high)
    assert isinstance(distribution, FloatDistribution)
    value = _between(distribution.low, distribution.high, position, log=distribution.log)
    return min(max(value, distribution.low), distribution.high)


def position_of(distribution: BaseDistribution, value: Any) -> float:
    """Return where a value of a range lies on the parameter's own scale: the inverse of ``value_at``.

    Args:
        distribution: Of a float or a whole number.
        value: Stored under it; one outside the range has a position outside [0, 1].

    Example:
        >>> position_of(FloatDistribution(1e-4, 1.0, log=True), 0.01)
        0.5
    """
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def grid_points(distribution: BaseDistribution, points: int) -> list[Any]:
    """Return a grid's values of one parameter: all choices, or evenly spaced ones on its own scale, ends included.

    Args:
        distribution: The parameter's.
        points: Values of a range, at least 1; a range of fewer whole numbers gives them all.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution) and distribution.high - distribution.low < points:
        return list(range(distribution.low, distribution.high + 1))
    positions = [0.5] if points == 1 else [index / (points - 1) for index in range(points)]
    values = [_between(distribution.low, distribution.high, position, log=distribution.log) for position in positions]
    if isinstance(distribution, IntDistribution):
        return sorted({round(value) for value in values})
    return [min(max(value, distribution.low), distribution.high) for value in values]


def origin_of(trial: FrozenTrial) -> int:
    """Return a trial's number, or that of the trial which it retries."""
    return int((trial.system_attrs.get(RETRY_HISTORY) or [trial.number])[0])


def place_of(number: int, trials: Sequence[FrozenTrial], *, begin: int = 0) -> int:
    """Return which place of a sequence a trial has: retries have numbers, but take no place.

    Args:
        number: The trial's; of a retry, that of the trial which it retries.
        trials: The study's, all with a lower number among them.
        begin: The number of the trial that has place 0.
    """
    n_retries = sum(begin <= other.number < number and origin_of(other) != other.number for other in trials)
    return number - begin - n_retries


class SequenceSampler(optuna.samplers.BaseSampler):
    """Gives trial n the n-th point of a sequence; where it ends it begins again.

    A retry takes the point of the trial that failed, but a number of its own: those after it count without it.

    Args:
        distributions: Every parameter that a trial may draw.
        point: From n, what each of them is.
        number: n, where it is not the trial's number: that of the trial which it retries, or counted from where the
            sequence begins.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], point: "PointSequence", *, number: int | None = None
    ) -> None:
        self._distributions = dict(distributions)
        self._point = point
        self._number = number

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space: a point of the sequence has a value for every parameter."""
        del study, trial
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of this trial."""
        del search_space
        first = origin_of(trial)
        begin = 0 if self._number is None else first - self._number
        return self._point.point(place_of(first, study.get_trials(deepcopy=False), begin=begin))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse: a parameter outside the space has no place in the sequence."""
        del study, trial, param_distribution
        raise SpecError(f"The parameter {param_name!r} is not in the space of this sequence.")


class GridSequence:
    """Every combination of a few values of each parameter, in an order shuffled by the seed.

    Args:
        distributions: The parameters.
        points: Values of each range; choices are all taken.
        seed: Of the order.

    Raises:
        SpecError: If it has more points than ``MAX_GRID``.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, points: int, seed: int) -> None:
        _check_points(distributions, points)
        self._names = list(distributions)
        self._values = [grid_points(distribution, points) for distribution in distributions.values()]
        self._seed = seed

    @functools.cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng(self._seed).permutation(len(self))

    def __len__(self) -> int:
        return math.prod(len(values) for values in self._values)

    def point(self, number: int) -> dict[str, Any]:
        """Return the n-th combination, from 0; the sequence begins again at its end."""
        indices = np.unravel_index(int(self._order[number % len(self)]), [len(values) for values in self._values])
        return {
            name: values[int(index)] for name, values, index in zip(self._names, self._values, indices, strict=True)
        }


class SobolSequence:
    """Scrambled Sobol points, which cover the space more evenly than random ones.

    Args:
        distributions: The parameters.
        seed: Of the scrambling.
        engine: ``sobol`` or ``halton``.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int, engine: str = "sobol") -> None:
        self._distributions = distributions
        self._seed = seed
        self._engine = engine

    def point(self, number: int) -> dict[str, Any]:
        """Return the n-th point, from 0."""
        from scipy.stats import qmc

        engines = {"sobol": qmc.Sobol, "halton": qmc.Halton}
        engine = engines[self._engine](len(self._distributions), scramble=True, rng=np.random.default_rng(self._seed))
        if number:
            engine.fast_forward(number)
        positions: Sequence[float] = engine.random(1)[0]
        return {
            name: value_at(distribution, min(float(position), math.nextafter(1.0, 0.0)))
            for (name, distribution), position in zip(self._distributions.items(), positions, strict=True)
        }


PointSequence = GridSequence | SobolSequence


def _check_points(distributions: Mapping[str, BaseDistribution], points: int) -> None:
    if _count_points(distributions, points) <= MAX_GRID:
        return
    low, high = 0, points
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _count_points(distributions, middle) <= MAX_GRID else (low, middle - 1)
    way = f"Lower points in search.sampler_options to {low}" if low else "Give fewer choices"
    raise SpecError(f"The grid has more than the {MAX_GRID} points that can be shuffled, or walked. {way}.")


def _count_points(distributions: Mapping[str, BaseDistribution], points: int) -> int:
    """Return how many points a grid has at most, without making them."""
    counts = []
    for distribution in distributions.values():
        if isinstance(distribution, CategoricalDistribution):
            counts.append(len(distribution.choices))
        elif isinstance(distribution, IntDistribution):
            counts.append(min(points, distribution.high - distribution.low + 1))
        else:
            counts.append(points)
    return math.prod(counts)


def _between(low: float, high: float, position: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    return low + position * (high - low)
