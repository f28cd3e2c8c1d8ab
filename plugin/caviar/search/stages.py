"""How a budget is shared by the stages of a search that goes from coarse to fine.

The first stage covers the whole space evenly, by a quasi-random sequence; each later one samples with TPE in a zoom
into the one before. Optuna's multivariate TPE smooths with a width that is a share of the range and hardly falls with
the number of trials, so narrower ranges are what lets it come closer. The stages, as their number and the promotion's
first rung, were chosen by benchmarks/search.py.
"""

import dataclasses

from ..errors import SpecError
from .promotion import PromotionRule

#: More stages than these were not tried; from three to six they made the search better, the more the larger its budget.
MAX_STAGES = 6
#: Trials of a stage below which its zoom would follow chance.
MIN_STAGE_TRIALS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One study of the search.

    Attributes:
        trials: Its budget: trials started in it; those that it takes over from the stage before do not count.
        sampler: What draws them.
    """

    trials: int
    sampler: str


def default_stages(trials: int, *, sampler: str = "tpe") -> tuple[Stage, ...]:
    """Return the stages of a search: equal shares of the trials, the first stages one larger where they do not divide.

    Args:
        trials: Budget of the whole search, at least 1.
        sampler: What samples in the zooms.

    Returns:
        As many stages as leave each ``MIN_STAGE_TRIALS``, from one to ``MAX_STAGES``.

    Raises:
        SpecError: If there is no trial to share.
    """
    if trials < 1:
        raise SpecError(f"A search needs at least one trial, but got {trials}.")
    n_stages = min(max(trials // MIN_STAGE_TRIALS, 1), MAX_STAGES)
    share, rest = divmod(trials, n_stages)
    return tuple(
        Stage(trials=share + (stage < rest), sampler="qmc" if stage == 0 else sampler) for stage in range(n_stages)
    )


def default_promotion(max_epochs: int) -> PromotionRule:
    """Return when trials are judged by default: after a thirteenth of the epochs, then three times as many, and so on.

    After the first of 52 epochs, LCBench's ranks say little of the last, and on some tasks the opposite; after the
    fourth they mostly agree.

    Args:
        max_epochs: Epochs of a whole training.
    """
    return PromotionRule(max_epochs=max_epochs, min_epochs=max(round(max_epochs / 13), 1), reduction=3)
