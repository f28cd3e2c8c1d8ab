"""The variables of several networks in shared arrays, and back: pure numpy.

Lanes stand in order of falling depth, so that those with a given layer come first: a slice without a copy. Every
width is padded to the widest with zeros, which stay zeros while the lanes train.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ...config import BatchNorm
from ...networks import Variable
from ..update_rules import SLOTS
from .data import FleetData
from .lane import Array, RunningLane
from .layers import VECTORS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each lane's variables stand in the shared arrays.

    The arrays of weights, in this order: the kernel of each hidden layer, (lanes of that depth, inputs, width); the
    head's kernel, (lanes, width, classes); the vectors of all hidden layers (bias, γ, β: each layer by layer, lane by
    lane), (rows, 1, width); the head's bias, (lanes, 1, classes). The moving statistics are one array like the vectors:
    means, then variances. Optimizer slots are arrays as the weights.
    """

    depth: int  # hidden layers of the program, at least those of the deepest lane
    counts: tuple[int, ...]  # for each hidden layer the lanes that have it, then 0
    width: int  # units of the widest hidden layer
    n_features: int
    n_classes: int
    batch_norm: BatchNorm  # the same in all lanes

    @classmethod
    def of(cls, lanes: Sequence[RunningLane], data: FleetData, *, depth: int) -> "Layout":
        """Return the layout of lanes in order of falling depth, in a program of at least that depth."""
        networks = [lane.spec.network for lane in lanes]
        depths = [network.depth for network in networks]
        assert depths == sorted(depths, reverse=True)
        assert depths[0] <= depth
        return cls(
            depth=depth,
            counts=tuple(sum(own > layer for own in depths) for layer in range(depth + 1)),
            width=max(max(network.widths) for network in networks),
            n_features=data.n_features,
            n_classes=data.n_classes,
            batch_norm=networks[0].batch_norm,
        )

    @property
    def n_rows(self) -> int:
        """Rows of one kind of vector: one for each layer of each lane."""
        return sum(self.counts)

    def weight_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of weights."""
        hidden = [
            (self.counts[layer], self.width if layer else self.n_features, self.width) for layer in range(self.depth)
        ]
        lanes = self.counts[0]
        vectors = (len(VECTORS[self.batch_norm]) * self.n_rows, 1, self.width)
        return [*hidden, (lanes, self.width, self.n_classes), vectors, (lanes, 1, self.n_classes)]

    def moving_shape(self) -> tuple[int, ...]:
        """Return the shape of the array of moving statistics, which has no rows without batch norm."""
        return (0 if self.batch_norm == "none" else 2 * self.n_rows, 1, self.width)

    def place(self, variable: Variable, lane: int, depth: int) -> tuple[int, int]:
        """Return the array and the row of a lane's kernel or vector.

        Args:
            variable: Not dropout's random state.
            lane: The lane's place in the order.
            depth: The lane's own; array ``depth + 3`` of the layout is that of the moving statistics.
        """
        if variable.layer == depth:
            return (self.depth, lane) if variable.kind == "kernel" else (self.depth + 2, lane)
        if variable.kind == "kernel":
            return variable.layer, lane
        row = sum(self.counts[: variable.layer]) + lane
        if variable.kind in ("moving_mean", "moving_variance"):
            return self.depth + 3, row + (self.n_rows if variable.kind == "moving_variance" else 0)
        return self.depth + 1, row + VECTORS[self.batch_norm].index(variable.kind) * self.n_rows


def stack(lanes: Sequence[RunningLane], layout: Layout, *, dtype: str) -> list[Array]:
    """Return shared arrays that hold the lanes, at least one: weights, moving statistics, then each slot's."""
    n_slots = len(SLOTS[lanes[0].spec.training.optimizer])
    shapes = [*layout.weight_shapes(), layout.moving_shape()] + layout.weight_shapes() * n_slots
    arrays: list[Array] = [np.zeros(shape, dtype) for shape in shapes]
    for index, lane in enumerate(lanes):
        for key, view in _views(arrays, layout, lane, index):
            view[...] = lane.arrays[key]
    return arrays


def unstack(arrays: Sequence[Array], layout: Layout, lane: RunningLane, index: int) -> dict[str, Array]:
    """Return copies of the arrays of the lane that was stacked in this place, as training left them."""
    return lane.arrays | {key: np.array(view) for key, view in _views(arrays, layout, lane, index)}


def _views(arrays: Sequence[Array], layout: Layout, lane: RunningLane, index: int) -> Iterator[tuple[str, Array]]:
    """Yield a lane's part of the shared arrays, by its keys; dropout's random state is not there, nor changes."""
    n_weights = layout.depth + 3
    for key, (variable, slot) in lane.parts.items():
        if variable.kind == "dropout_seed":
            continue
        array, row = layout.place(variable, index, lane.spec.network.depth)
        start = 0 if slot is None else (slot + 1) * n_weights + 1
        part, shape = arrays[start + array][row], variable.shape
        yield key, part[0, : shape[0]] if len(shape) == 1 else part[: shape[0], : shape[1]]
