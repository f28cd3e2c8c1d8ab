"""What an epoch of a fleet costs, in seconds: a sum of few terms, each with a price that is measured on the machine."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..config import BatchNorm, NetworkConfig, Optimizer, TrainingConfig

# Operations of a step besides those of the layers, and those of one layer, counted in the traced programs.
_STEP_OPERATIONS: Final = 45
_LAYER_OPERATIONS: Final[dict[BatchNorm, int]] = {"none": 18, "before_activation": 38, "after_activation": 40}
# Passes over a layer's values, and over the weights.
_VALUE_PASSES: Final[dict[BatchNorm, int]] = {"none": 6, "before_activation": 16, "after_activation": 18}
_WEIGHT_PASSES: Final[dict[Optimizer, int]] = {"sgd": 3, "adam": 9, "rmsprop": 9}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataShape:
    """What of a data set decides the cost.

    Attributes:
        n_train: Training examples.
        n_validation: Validation examples.
        n_features: Values of one example.
        n_classes: Classes.
    """

    n_train: int
    n_validation: int
    n_features: int
    n_classes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneShape:
    """What of a trial decides with which others it trains well.

    Attributes:
        network: Its network.
        training: How it is trained.
    """

    network: NetworkConfig
    training: TrainingConfig

    @property
    def family(self) -> tuple[str, str, str]:
        """What lanes of one fleet have in common."""
        return self.network.activation, self.network.batch_norm, self.training.optimizer

    @property
    def width(self) -> int:
        """Units of the widest layer."""
        return max(self.network.widths)

    def batch_size(self, data: DataShape) -> int:
        """Rows of a batch; a split smaller than it is one batch."""
        return min(self.training.batch_size, data.n_train)

    def flop(self, data: DataShape) -> float:
        """Return the arithmetic of one epoch of training, unpadded: three products a layer, two operations a term."""
        sizes = (data.n_features, *self.network.widths, data.n_classes)
        terms = sum(first * second for first, second in itertools.pairwise(sizes))
        size = self.batch_size(data)
        return 6.0 * terms * (data.n_train // size) * size


Program = tuple[tuple[str, str, str], int, bool, bool, bool]
"""What two fleets share a program by: family, depth, whether batch sizes differ, dropout, L2."""


def program_of(lanes: Sequence[LaneShape], data: DataShape) -> Program:
    """Return which program trains these lanes."""
    return (
        lanes[0].family,
        max(lane.network.depth for lane in lanes),
        len({lane.batch_size(data) for lane in lanes}) > 1,
        any(lane.network.dropout > 0 for lane in lanes),
        any(lane.network.l2 > 0 for lane in lanes),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetWork:
    """One epoch of a fleet, counted. Padding is part of it.

    Attributes:
        operations: Operations started.
        products: Lanes' matrix products.
        flop: Arithmetic of the products, validation included.
        values: Activations and gradients passed over.
        weights: Weights and slots passed over.
        spilled: Of the values those beyond what the cache holds at once.
        lanes: Lanes, for what the host does for each.
        training_flop: Arithmetic of the training steps' products.
    """

    operations: float
    products: float
    flop: float
    values: float
    weights: float
    spilled: float
    lanes: int
    training_flop: float

    @classmethod
    def of(cls, lanes: Sequence[LaneShape], data: DataShape, *, cache_bytes: int) -> "FleetWork":
        """Count the work of an epoch of these lanes, at least one, of one family."""
        network, optimizer = lanes[0].network, lanes[0].training.optimizer
        depth = max(lane.network.depth for lane in lanes)
        width = max(lane.width for lane in lanes)
        sizes = [lane.batch_size(data) for lane in lanes]
        rows, steps = max(sizes), max(data.n_train // size for size in sizes)
        counts = [sum(lane.network.depth > layer for lane in lanes) for layer in range(depth)]
        terms = sum(count * (width if layer else data.n_features) * width for layer, count in enumerate(counts))
        terms += len(lanes) * width * data.n_classes
        values = sum(counts) * width * _VALUE_PASSES[network.batch_norm]
        values += len(lanes) * (data.n_features + 8 * data.n_classes)
        training_flop = 6.0 * terms * rows * steps
        # Features, each layer's outputs and what its gradient needs of them, in 4 bytes.
        working_bytes = 4.0 * rows * (len(lanes) * data.n_features + 3 * sum(counts) * width)
        spilled = values * rows * steps * max(0.0, 1.0 - cache_bytes / working_bytes)
        return cls(
            operations=steps * (_STEP_OPERATIONS + depth * _LAYER_OPERATIONS[network.batch_norm]),
            products=steps * 3.0 * (sum(counts) + len(lanes)),
            flop=training_flop + 2.0 * terms * data.n_validation,
            values=float(values) * (rows * steps + 0.3 * data.n_validation),
            weights=float(terms) * steps * _WEIGHT_PASSES[optimizer],
            spilled=spilled,
            lanes=len(lanes),
            training_flop=training_flop,
        )

    def counted(self) -> npt.NDArray[np.float64]:
        """Return the amounts that `CostModel.prices` are for, and 1 for the epoch itself."""
        amounts = (self.operations, self.products, self.flop, self.values, self.weights, self.spilled, self.lanes, 1.0)
        return np.array(amounts, np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostModel:
    """Prices of a fleet's work on one machine.

    Attributes:
        prices: Seconds for one of each amount of `FleetWork.counted`.
        trace_s: Seconds that a program takes when it is new.
        cache_bytes: The processor's last cache.
    """

    prices: tuple[float, ...]
    trace_s: float
    cache_bytes: int

    def epoch_s(self, lanes: Sequence[LaneShape], data: DataShape) -> float:
        """Return the seconds of an epoch of a fleet of these lanes, at least one, of one family."""
        work = FleetWork.of(lanes, data, cache_bytes=self.cache_bytes)
        return float(np.dot(self.prices, work.counted()))

    def save(self, path: Path) -> None:
        """Keep it in a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "CostModel | None":
        """Return what a file keeps; None where there is none that can be read."""
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            prices = tuple(float(price) for price in table["prices"])
            model = cls(prices=prices, trace_s=float(table["trace_s"]), cache_bytes=int(table["cache_bytes"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return model if len(prices) == len(TYPICAL.prices) else None


#: Prices fitted on two cores of an AMD EPYC, one thread, on 2026-11-22: where a plan is shown before any was measured.
TYPICAL: Final = CostModel(
    prices=(2.5e-6, 1.2e-6, 1.05e-11, 1.5e-10, 3.0e-10, 1.0e-10, 1.0e-4, 1.5e-3), trace_s=0.25, cache_bytes=1 << 25
)
