"""How many trials a worker has in hand at once."""

from typing import Final

from .packing import MAX_LANES

#: Samplers that learn from the trials before: many at once would draw as if they were blind.
_BLIND_SAMPLERS: Final = frozenset({"random", "grid", "qmc"})
_MOST_OF_A_LEARNER: Final = 32


def trials_in_hand(sampler: str, *, budget: int, left: int, workers: int) -> int:
    """Return how many trials a worker takes at once.

    A sampler that learns has at most an eighth of the budget in flight, over all workers; one that does not, half of
    what is left for each: full fleets at first, and at the end no worker that waits for long.

    Args:
        sampler: Its name in the study file.
        budget: Trials of the study.
        left: Trials that nobody has taken yet.
        workers: Workers of the study.
    """
    if sampler in _BLIND_SAMPLERS:
        return max(4, min(MAX_LANES, left // (2 * workers)))
    return max(2, min(_MOST_OF_A_LEARNER, budget // (8 * workers)))
