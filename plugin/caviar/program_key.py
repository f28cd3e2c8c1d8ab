"""What tells the program of one fleet from that of another.

The packer, which charges for each program that has to be traced, and training, which traces it, use the same key.
"""

from typing import Final, NamedTuple

from .config import Activation, BatchNorm, Optimizer

#: Depths are rounded up to multiples of this.
_DEPTH_STEP: Final = 4
#: Activations that do not give 0 for 0, so that padding has to be set to 0 again.
_NOT_ZERO_AT_ZERO: Final[frozenset[Activation]] = frozenset({"sigmoid"})


class ProgramKey(NamedTuple):
    """What is constant in a program; fleets that are equal in this share it.

    Attributes:
        depth: Hidden layers of the program, at least those of the deepest lane.
        activation: Of all hidden layers.
        batch_norm: Placement.
        optimizer: Update rule.
        ragged: Whether the lanes' batch sizes differ: smaller batches are padded, and lanes with fewer steps rest.
        dropout: Whether any lane drops units.
        l2: Whether any lane's kernels are penalised.
        dtype: The float type.
    """

    depth: int
    activation: Activation
    batch_norm: BatchNorm
    optimizer: Optimizer
    ragged: bool
    dropout: bool
    l2: bool
    dtype: str

    @property
    def masks_units(self) -> bool:
        """Whether padding has to be set to 0 again behind the activation."""
        return self.activation in _NOT_ZERO_AT_ZERO and self.batch_norm != "after_activation"


def program_depth(depth: int, *, deepest: int | None) -> int:
    """Return how many hidden layers the program has that trains fleets of this depth.

    A program serves shallower fleets too, at 0.05 ms a step for each layer that no lane has, where a trace takes 0.2 s.
    So depths are rounded up: to 4, 8 and so on, but not beyond the deepest network that will come.

    Args:
        depth: Hidden layers of the fleet's deepest lane.
        deepest: Those of the deepest network that will come; None where that is not known: each depth has a program.
    """
    return depth if deepest is None else max(depth, min(deepest, -(-depth // _DEPTH_STEP) * _DEPTH_STEP))
