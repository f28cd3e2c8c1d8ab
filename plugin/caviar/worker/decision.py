"""What becomes of a trial after each of its epochs."""

import enum


class Decision(enum.Enum):
    """What a trial does next."""

    GO_ON = "go on"
    PARK = "park"
    PRUNE = "prune"
    COMPLETE = "complete"


def decide(*, epochs: int, max_epochs: int, pruned: bool, paused: bool = False) -> Decision:
    """Return what a trial does next.

    Args:
        epochs: Epochs that it has done.
        max_epochs: Epochs of a whole training.
        pruned: Whether it diverged, or its pruner ends it; this counts after its last epoch, too.
        paused: Whether it stands at a rung and must wait there for a promotion.
    """
    if pruned:
        return Decision.PRUNE
    if epochs >= max_epochs:
        return Decision.COMPLETE
    return Decision.PARK if paused else Decision.GO_ON
