"""The variables of several networks in shared arrays, and back: pure numpy.

Lanes stand in order of falling depth, so that those with a given layer come first: a slice without a copy. Every
width is padded to the widest with zeros, which stay zeros while the lanes train.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...config import BatchNorm, NetworkConfig
from ...networks import Variable
from .layers import VECTORS

Array = npt.NDArray[np.generic]


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
    def of(cls, networks: Sequence[NetworkConfig], *, depth: int, n_features: int, n_classes: int) -> "Layout":
        """Return the layout of networks in order of falling depth; raise ValueError for any other order."""
        depths = [network.depth for network in networks]
        if depths != sorted(depths, reverse=True) or depths[0] > depth:
            raise ValueError(f"Lanes must stand in order of falling depth up to {depth}, but these have {depths}.")
        return cls(
            depth=depth,
            counts=tuple(sum(own > layer for own in depths) for layer in range(depth + 1)),
            width=max(max(network.widths) for network in networks),
            n_features=n_features,
            n_classes=n_classes,
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


@dataclasses.dataclass(kw_only=True, eq=False)
class LaneArrays:
    """One network's variables and optimizer slots, unpadded."""

    network: NetworkConfig
    variables: tuple[Variable, ...]
    values: list[Array]  # one a variable
    slots: list[list[Array]]  # for each slot of the optimizer, one a trainable variable


def stack(lanes: Sequence[LaneArrays], layout: Layout, *, dtype: str) -> list[Array]:
    """Return shared arrays that hold the lanes, at least one: weights, moving statistics, then each slot's."""
    n_slots = len(lanes[0].slots)
    shapes = [*layout.weight_shapes(), layout.moving_shape()] + layout.weight_shapes() * n_slots
    arrays: list[Array] = [np.zeros(shape, dtype) for shape in shapes]
    for index, lane in enumerate(lanes):
        for view, values in _views(arrays, layout, lane, index):
            view[...] = values
    return arrays


def unstack(arrays: Sequence[Array], layout: Layout, lane: LaneArrays, index: int) -> LaneArrays:
    """Return copies of a lane's variables and slots.

    Args:
        arrays: From `stack`, as training left them.
        layout: Of the networks that were stacked.
        lane: The lane as it was stacked; dropout's random state, which does not change, is taken from it.
        index: Its place among them.
    """
    copies = {id(values): np.array(view) for view, values in _views(arrays, layout, lane, index)}
    return LaneArrays(
        network=lane.network,
        variables=lane.variables,
        values=[copies.get(id(values), values) for values in lane.values],
        slots=[[copies[id(values)] for values in slot] for slot in lane.slots],
    )


def _views(arrays: Sequence[Array], layout: Layout, lane: LaneArrays, index: int) -> list[tuple[Array, Array]]:
    """Pair a lane's part of the shared arrays with the lane's own arrays."""
    pairs = []
    depth = lane.network.depth
    n_weights = layout.depth + 3
    trainable = [variable for variable in lane.variables if variable.trainable]
    for variable, values in zip(lane.variables, lane.values, strict=True):
        if variable.kind != "dropout_seed":
            pairs.append((_part(arrays, layout.place(variable, index, depth), values), values))
    for number, slot in enumerate(lane.slots):
        own = arrays[n_weights + 1 + number * n_weights :]
        for variable, values in zip(trainable, slot, strict=True):
            pairs.append((_part(own, layout.place(variable, index, depth), values), values))
    return pairs


def _part(arrays: Sequence[Array], place: tuple[int, int], values: Array) -> Array:
    array, row = place
    part: Array = arrays[array][row]
    if values.ndim == 1:
        return part[0, : values.shape[0]]
    return part[: values.shape[0], : values.shape[1]]
