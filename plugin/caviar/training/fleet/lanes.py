"""A fleet's lanes, and their networks' variables in shared arrays and back: all on the host, in numpy.

In the shared arrays lanes stand in order of falling depth, so that those with a given layer come first: a slice
without a copy. Every width is padded to the widest with zeros, which stay zeros while the lanes train.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ...config import BatchNorm, NetworkConfig, TrainingConfig
from ...networks import Variable, initial_values, network_variables
from ..trainer import LaneState
from ..update_rules import SLOTS
from .data import FleetData
from .layers import VECTORS

Array = npt.NDArray[np.generic]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """One network to train in a fleet.

    The seed, at least 0, decides the initial weights, those of ``build_network`` with this seed, the order of the
    examples, and the dropout masks.
    """

    network: NetworkConfig
    training: TrainingConfig  # with the first values of the hyperparameters
    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, but got {self.seed}.")


class RunningLane:
    """A lane in training: what the host keeps of it."""

    def __init__(self, spec: Lane, data: FleetData) -> None:
        self.spec: Final = spec
        self.seed = spec.seed  # a loaded state brings its own
        self.epoch = 0  # epochs done
        network, training = spec.network, spec.training
        self.live: dict[str, npt.NDArray[np.float64]] = {
            "learning_rate": np.array(training.learning_rate),
            "momentum": np.array(training.momentum),
            "decay_rate": np.array(training.decay_rate),
            "dropout": np.full(network.depth, network.dropout),
            "l2": np.full(network.depth + 1, network.l2),
        }
        self.batch_size: Final = min(training.batch_size, data.n_train)
        self.n_steps: Final = data.n_train // self.batch_size  # of an epoch
        variables = network_variables(network, n_features=data.n_features, n_classes=data.n_classes)
        values = initial_values(network, variables, seed=spec.seed)
        # The network's variables and the optimizer's slots, unpadded, by their keys in the lane's state; and what each
        # is: a variable, or the numbered slot of one.
        self.arrays: dict[str, Array] = {f"variable.{i}": value for i, value in enumerate(values)}
        self.parts: Final[dict[str, tuple[Variable, int | None]]] = {
            f"variable.{i}": (part, None) for i, part in enumerate(variables)
        }
        trainable = [variable for variable in variables if variable.trainable]
        for slot, name in enumerate(SLOTS[training.optimizer]):
            for i, variable in enumerate(trainable):
                self.arrays[f"slot.{name}.{i}"] = np.zeros(variable.shape, values[0].dtype)
                self.parts[f"slot.{name}.{i}"] = (variable, slot)

    def state(self, arrays: Mapping[str, Array]) -> LaneState:
        """Return the lane's whole state with these arrays; see `Trainer.lane_state`."""
        state: LaneState = {"epoch": np.array(self.epoch, np.int64), "seed": np.array(self.seed, np.uint64)}
        state |= {f"hyperparameter.{name}": value.copy() for name, value in self.live.items()}
        return state | {key: np.array(value) for key, value in arrays.items()}

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over a checked state."""
        self.epoch, self.seed = int(state["epoch"]), int(state["seed"])
        self.live = {name: np.array(state[f"hyperparameter.{name}"], np.float64) for name in self.live}
        self.arrays = {key: np.array(state[key]) for key in self.arrays}


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
        """Return the array and the row of a variable, other than dropout's random state, of a lane of this depth.

        Array ``self.depth + 3`` is that of the moving statistics.
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
