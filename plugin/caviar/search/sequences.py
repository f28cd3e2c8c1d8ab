"""Positions in a range, and the fixed sequences of points that grid and quasi-Monte Carlo search walk.

The trial with index n takes point n, whichever worker runs it. Optuna's own grid raises on enqueued trials and on
exhaustion under ask and tell, and its quasi-Monte Carlo sampler counts its points in a study attribute, for which
workers race.
"""

import bisect
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from ..attributes import ORIGIN, RETRY_HISTORY
from ..errors import SpecError

MAX_GRID = 10_000_000  # points of the largest grid: its order is kept in memory, in 80 MB


def sequence_index(number: int, trials: Iterable[FrozenTrial]) -> int:
    """Return the index of a trial in whatever a study takes in sequence: points of a grid, or given configurations.

    A retry repeats a trial, and so does a fork: neither takes an index of its own although it has a number of its own.
    For a retry, ``number`` is its `origin_of`.
    """
    repeats = {RETRY_HISTORY, ORIGIN}
    return number - sum(trial.number < number and not repeats.isdisjoint(trial.system_attrs) for trial in trials)


def origin_of(trial: FrozenTrial) -> int:
    """Return a trial's number, or that of the first trial that it repeats or was forked from."""
    return int((trial.system_attrs.get(RETRY_HISTORY) or [trial.system_attrs.get(ORIGIN, trial.number)])[0])


def value_at(distribution: BaseDistribution, position: float) -> Any:
    """Return the value at a position in [0, 1) of a parameter's range, on its own scale; 0 is the low end.

    Whole numbers share the range equally, and so do choices.

    Example:
        >>> value_at(FloatDistribution(1e-4, 1.0, log=True), 0.5)
        0.01
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(position * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    value = _between(*_ends(distribution), position, log=distribution.log)
    whole = round(value) if isinstance(distribution, IntDistribution) else value
    return min(max(whole, distribution.low), distribution.high)


def position_of(distribution: BaseDistribution, value: Any) -> float:
    """Return the position of a number in its range, outside [0, 1] for one outside it: the inverse of ``value_at``."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether a parameter may take a value; steps do not matter."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return distribution.low <= value <= distribution.high and (
        isinstance(distribution, FloatDistribution) or value == int(value)
    )


def grid_points(distribution: BaseDistribution, points: int) -> list[Any]:
    """Return a grid's values of one parameter: all choices, or evenly spaced ones on its own scale, ends included.

    A range of fewer whole numbers than ``points`` gives them all.
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


class GridSequence:
    """Every combination of ``points`` values a range and all choices, shuffled by the seed; at most ``MAX_GRID``."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, points: int, seed: int) -> None:
        _check_size(distributions, points)
        self._values = {name: grid_points(distribution, points) for name, distribution in distributions.items()}
        self._shape = [len(values) for values in self._values.values()]
        self._seed = seed

    @functools.cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng(self._seed).permutation(len(self))

    def __len__(self) -> int:
        return math.prod(self._shape)

    def point(self, index: int) -> dict[str, Any]:
        """Return the combination at an index, from 0; the sequence begins again at its end."""
        places = np.unravel_index(int(self._order[index % len(self)]), self._shape)
        return {name: values[int(place)] for (name, values), place in zip(self._values.items(), places, strict=True)}


def quasi_random_point(
    distributions: Mapping[str, BaseDistribution], index: int, *, seed: int, engine: str = "sobol"
) -> dict[str, Any]:
    """Return a point, from index 0, of a ``sobol`` or ``halton`` sequence scrambled by the seed.

    It covers the space more evenly than random draws do.
    """
    from scipy.stats import qmc

    engines = {"sobol": qmc.Sobol, "halton": qmc.Halton}
    sequence = engines[engine](len(distributions), scramble=True, rng=np.random.default_rng(seed))
    if index:
        sequence.fast_forward(index)
    return {
        name: value_at(distribution, min(float(position), math.nextafter(1.0, 0.0)))
        for (name, distribution), position in zip(distributions.items(), sequence.random(1)[0], strict=True)
    }


def _check_size(distributions: Mapping[str, BaseDistribution], points: int) -> None:
    if _count_points(distributions, points) <= MAX_GRID:
        return
    fewer = range(1, min(points, MAX_GRID + 1))
    most = bisect.bisect_right(fewer, MAX_GRID, key=lambda n: _count_points(distributions, n))
    way = f"Lower points in search.sampler_options to {most}" if most else "Give fewer choices"
    raise SpecError(f"The grid has more points than the {MAX_GRID} that are allowed. {way}.")


def _count_points(distributions: Mapping[str, BaseDistribution], points: int) -> int:
    """Return how many points a grid has at most, without making them."""
    n_points = 1
    for distribution in distributions.values():
        if isinstance(distribution, CategoricalDistribution):
            n_points *= len(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            n_points *= min(points, distribution.high - distribution.low + 1)
        else:
            n_points *= points
    return n_points


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Return between which numbers a range's positions lie: whole numbers share it equally."""
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    return distribution.low - half, distribution.high + half


def _between(low: float, high: float, position: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    return low + position * (high - low)
