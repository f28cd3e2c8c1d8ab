"""What tells the program of one fleet from that of another.

The packer, which charges for each program that has to be traced, and training, which traces it, use the same key.
"""

from typing import Final, NamedTuple

from .config import Activation, BatchNorm, Optimizer

_DEPTH_STEP: Final = 4  # depths are rounded up to multiples of this
_NOT_ZERO_AT_ZERO: Final[frozenset[Activation]] = frozenset({"sigmoid"})  # padding has to be set to 0 again


class ProgramKey(NamedTuple):
    """What is constant in a program; fleets that are equal in this share it."""

    depth: int  # hidden layers of the program, at least those of the deepest lane
    activation: Activation
    batch_norm: BatchNorm
    optimizer: Optimizer
    ragged: bool  # whether the lanes' batch sizes differ: smaller batches are padded, and lanes with fewer steps rest
    dropout: bool  # whether any lane drops units
    l2: bool  # whether any lane's kernels are penalised
    dtype: str

    @property
    def masks_units(self) -> bool:
        """Whether padding has to be set to 0 again behind the activation."""
        return self.activation in _NOT_ZERO_AT_ZERO and self.batch_norm != "after_activation"


def program_depth(depth: int, *, deepest: int | None) -> int:
    """Return how many hidden layers the program has that trains fleets whose deepest lane has ``depth``.

    A program serves shallower fleets too, at 0.05 ms a step for each layer that no lane has, where a trace takes 0.2 s.
    So depths are rounded up: to 4, 8 and so on, but not beyond the deepest network that will come (``deepest``). Where
    that is None, each depth has a program.
    """
    return depth if deepest is None else max(depth, min(deepest, -(-depth // _DEPTH_STEP) * _DEPTH_STEP))
