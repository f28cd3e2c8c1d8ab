"""How many trials a worker has in hand at once."""

from typing import Final

from .packing import MAX_LANES

#: Samplers that learn from the trials before: many at once would draw as if they were blind.
_BLIND_SAMPLERS: Final = frozenset({"random", "grid", "qmc"})
_MOST_OF_A_LEARNER: Final = 32
_MOST_IN_HAND: Final = 2 * MAX_LANES


def trials_in_hand(
    sampler: str, *, budget: int, left: int, workers: int, set_aside: int = 0, cheap: bool = False
) -> int:
    """Return how many trials a worker takes at once.

    A sampler that learns has at most an eighth of the budget in flight, over all workers; one that does not, half of
    what is left for each, or all of it where trials are cheap, beside those that were set aside: full fleets at first,
    and at the end no worker that waits for long.

    Args:
        sampler: Its name in the study file.
        budget: Trials of the study.
        left: Trials that nobody has taken yet.
        workers: Workers of the study.
        set_aside: Trials that the worker has begun, and that wait for others to train with.
        cheap: Whether all that a worker has in hand trains for an epoch in a second or two.
    """
    if sampler in _BLIND_SAMPLERS:
        share = left // (workers if cheap else 2 * workers)
        return min(set_aside + max(4, min(MAX_LANES, share)), _MOST_IN_HAND)
    return max(2, min(_MOST_OF_A_LEARNER, budget // (8 * workers)))
