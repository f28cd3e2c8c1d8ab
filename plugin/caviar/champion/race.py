"""The race: which of a search's best trials is really best, at a price that is set before. Pure decisions."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

#: Round → how many candidates may go on after it, whatever the test says: what is saved goes to those that are left.
CAPS: Final[Mapping[int, float]] = {2: 0.6, 5: 0.4}
#: A candidate leaves when it is as far behind the leader as chance puts an equal one in this share of tests.
LEVEL: Final = 0.02
_FIRST_TEST: Final = 2


class Interval(NamedTuple):
    """A mean, and the 95 % interval of what it estimates."""

    mean: float
    low: float
    high: float


class Standings(NamedTuple):
    """Where a race stands.

    Attributes:
        alive: Candidates that may still win, the leader first.
        n_rounds: Rounds that are complete.
        is_over: Whether the winner is known: one candidate is left, or the budget has no room for another round.
    """

    alive: tuple[int, ...]
    n_rounds: int
    is_over: bool


def standings(rounds: Sequence[Mapping[int, float]], *, n_candidates: int, budget: int, maximize: bool) -> Standings:
    """Replay a race from its results, and return where it stands.

    Every candidate that is alive trains once a round, all of them on the same seed and the same cut of the data, so
    that what a round has in common cancels out. After each round from the second, a candidate leaves if a one-sided
    t-test finds it worse than the leader, with candidates and rounds as effects and the residual variance pooled over
    all candidates; after the rounds of ``CAPS`` the last ones leave, as in sequential halving, so that the budget is
    spent on those that are hard to tell apart.

    Args:
        rounds: For each complete round the value of each candidate that was alive in it.
        n_candidates: How many began; candidate 0 is the search's best.
        budget: Trainings that the race may take.
        maximize: Whether more is better.

    Source:
        Birattari et al., A Racing Algorithm for Configuring Metaheuristics, GECCO 2002 (t-race, on blocks);
        Karnin, Koren and Somekh, Almost Optimal Exploration in Multi-Armed Bandits, ICML 2013 (sequential halving).
    """
    sign = 1.0 if maximize else -1.0
    values = np.full((len(rounds), n_candidates), np.nan)
    alive, n_trained = list(range(n_candidates)), 0
    for number, results in enumerate(rounds, 1):
        values[number - 1, alive] = [sign * results[candidate] for candidate in alive]
        n_trained += len(alive)
        alive = _survivors(values[:number], alive, n_candidates=n_candidates)
    is_over = len(alive) == 1 or n_trained + len(alive) > budget
    return Standings(alive=tuple(alive), n_rounds=len(rounds), is_over=is_over)


def mean_interval(values: Sequence[float], *, low: float = -math.inf, high: float = math.inf) -> Interval:
    """Return the mean of independent values and its 95 % t-interval.

    They must not have taken part in a choice: the best of several is better than it will be.

    Args:
        values: At least 2.
        low: Where the interval is cut off, since nothing lies below.
        high: Where it is cut off, since nothing lies above.
    """
    n, mean = len(values), float(np.mean(values))
    half = float(special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n))
    return Interval(mean, max(low, mean - half), min(high, mean + half))


def p_value(lead: float, spread: float, *, freedom: int) -> float:
    """Return the chance of a lead as large or larger where there is none: Student's t-test, one-sided.

    Args:
        lead: What was measured.
        spread: Its standard error.
        freedom: The degrees of freedom; with none, nothing can be said, so that the chance is 1.
    """
    if freedom < 1:
        return 1.0
    if spread == 0.0:
        return 0.0 if lead > 0.0 else 1.0
    return float(special.stdtr(freedom, -lead / spread))


def share_interval(n_right: int, n: int) -> Interval:
    """Return a share and its 95 % interval by Wilson's score, which holds near 0 and 1, too."""
    z, share = 1.959963984540054, n_right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _survivors(values: NDArray[np.float64], alive: Sequence[int], *, n_candidates: int) -> list[int]:
    """Return who goes on after the last of some rounds, the leader first."""
    n_rounds = len(values)
    effects, variance, freedom = _fit(values)
    ranked = sorted(alive, key=lambda candidate: (-effects[candidate], candidate))
    if n_rounds < _FIRST_TEST:
        return ranked
    spread = math.sqrt(2 * variance / n_rounds)  # of the difference of two that ran in every round
    lead = effects[ranked[0]]
    kept = [c for c in ranked if p_value(lead - effects[c], spread, freedom=freedom) >= LEVEL]
    share = CAPS.get(n_rounds)
    return kept if share is None else kept[: max(1, round(share * n_candidates))]


def _fit(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, int]:
    """Fit value = round + candidate by least squares.

    Args:
        values: Shape (rounds, candidates), NaN where a candidate was no longer there.

    Returns:
        The candidates' effects, the residual variance, and its degrees of freedom.
    """
    rows, columns = np.nonzero(~np.isnan(values))
    n_rounds, n_candidates = values.shape
    design = np.zeros((len(rows), n_rounds + n_candidates))
    design[np.arange(len(rows)), rows] = 1.0
    design[np.arange(len(rows)), n_rounds + columns] = 1.0
    observed = values[rows, columns]
    solution, _, rank, _ = np.linalg.lstsq(design, observed, rcond=None)
    freedom = len(rows) - int(rank)
    residuals = observed - design @ solution
    effects = solution[n_rounds:]
    return effects - effects.mean(), float(residuals @ residuals) / max(freedom, 1), freedom
