"""How a budget is shared by the stages of a search that goes from coarse to fine.

Each stage after the first is a zoom into the one before. Optuna's multivariate TPE smooths with a width that is a share
of the range and hardly falls with the number of trials, so narrower ranges let it come closer; but a zoom drawn around
too few trials follows chance. Chosen with benchmarks/search.py: on its eight tasks one to four stages were about equal,
and six were behind at the smallest budget. On all 34 tasks three stages against one gained at 100 full trainings (mean
regret 2.4 against 2.9 points, 21 tasks won, p = 0.01; two seeds, 2026-11-22) and nothing measurable at 10 and 30.
"""

from ..errors import SpecError
from .narrowing import ZoomRule
from .promotion import PromotionRule

MAX_STAGES = 3
#: Trials without which a stage is not worth its zoom.
MIN_STAGE_TRIALS = 8


def default_stages(trials: int) -> tuple[int, ...]:
    """Return how many trials each stage of a search has: equal shares, the first ones larger where they do not divide.

    Args:
        trials: Budget of the whole search, at least 1. Trials that a stage takes over from the one before do not count.

    Returns:
        One to three numbers: as many as leave each stage ``MIN_STAGE_TRIALS``.

    Raises:
        SpecError: If there is no trial to share.

    Example:
        >>> default_stages(120)
        (40, 40, 40)
    """
    if trials < 1:
        raise SpecError(f"A search needs at least one trial, but got {trials}.")
    n_stages = min(max(trials // MIN_STAGE_TRIALS, 1), MAX_STAGES)
    share, rest = divmod(trials, n_stages)
    return tuple(share + (stage < rest) for stage in range(n_stages))


def default_promotion(max_epochs: int) -> PromotionRule:
    """Return when trials are judged by default: after a thirteenth of the epochs, then three times as many, and so on.

    After the first of 52 epochs, LCBench's ranks say little of the last, and on some tasks the opposite; after the
    fourth they mostly agree.

    Args:
        max_epochs: Epochs of a whole training.
    """
    return PromotionRule(max_epochs=max_epochs, min_epochs=max(round(max_epochs / 13), 1), reduction=3)


def default_zoom() -> ZoomRule:
    """Return how a stage narrows the space for the next: to the best fifth, but to twenty trials at most."""
    return ZoomRule(keep=0.2, max_best=20)
