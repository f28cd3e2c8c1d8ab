"""Which of a search's trials race, the best ones that differ, and in which study."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from ..search.sequences import position_of

#: Trials are near-duplicates where no parameter differs by more than this share of its range, on its scale.
NEAR: Final = 0.02
_RACE: Final = "-champion"


def race_name(study: str) -> str:
    """Return the name of the study that a study's race is."""
    return f"{study}{_RACE}"


def pick_candidates(
    trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution], *, n: int, maximize: bool
) -> list[FrozenTrial]:
    """Return a search's best complete trials, the best first, of near-duplicates only the best.

    Args:
        trials: COMPLETE ones.
        distributions: Of the search space.
        n: How many at most.
        maximize: Whether more is better.
    """
    sign = -1.0 if maximize else 1.0
    chosen: list[FrozenTrial] = []
    for trial in sorted(trials, key=lambda trial: (sign * (trial.value or 0.0), trial.number)):
        if len(chosen) == n:
            break
        if not any(_are_near(trial.params, other.params, distributions) for other in chosen):
            chosen.append(trial)
    return chosen


def _are_near(one: Mapping[str, Any], other: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> bool:
    """Tell whether two trials drew the same parameters, and nearly the same values."""
    if one.keys() != other.keys():
        return False
    return all(
        one[name] == other[name] or _distance(distributions[name], one[name], other[name]) <= NEAR for name in one
    )


def _distance(distribution: BaseDistribution, one: Any, other: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return 1.0
    return abs(position_of(distribution, one) - position_of(distribution, other))
