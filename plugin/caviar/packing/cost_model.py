"""What an epoch of a fleet costs, in seconds: a sum of few terms, each with a price that is measured on the machine."""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..atomic_write import write_whole
from ..config import Activation, BatchNorm, NetworkConfig, Optimizer, TrainingConfig
from ..program_key import ProgramKey, program_depth

# Operations of a step besides those of the layers, and those of one layer, counted in the traced programs.
_STEP_OPERATIONS: Final = 45
_LAYER_OPERATIONS: Final[dict[BatchNorm, int]] = {"none": 18, "before_activation": 38, "after_activation": 40}
# Passes over a layer's values, and over the weights.
_VALUE_PASSES: Final[dict[BatchNorm, int]] = {"none": 6, "before_activation": 16, "after_activation": 18}
_WEIGHT_PASSES: Final[dict[Optimizer, int]] = {"sgd": 3, "adam": 9, "rmsprop": 9}
# Floats that a lane keeps for every weight (values, slots, gradients) and for every activation of a batch.
_WEIGHT_COPIES: Final = 6
_VALUE_COPIES: Final = 6


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
    def family(self) -> tuple[Activation, BatchNorm, Optimizer]:
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


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LaneRow:
    """Lanes of one family in a row, as columns: what their fleets cost is computed for many at once.

    A fleet is here some of the first lanes of the row; what is said of all fleets has an element for each: of the first
    lane alone, of the first two, and so on.

    Attributes:
        data: The data set's shape.
        first: The first lane, for what the family has in common.
        depths: Hidden layers, int (n,), as what follows.
        widths: Units of the widest layer.
        sizes: Rows of a batch.
        epochs: Of the whole training.
        dropout: Whether the lane drops units, bool.
        l2: Whether its kernels are penalised, bool.
    """

    data: DataShape
    first: LaneShape
    depths: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    epochs: npt.NDArray[np.int64]
    dropout: npt.NDArray[np.bool_]
    l2: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, lanes: Sequence[LaneShape], data: DataShape) -> "LaneRow":
        """Return lanes, at least one, of one family, as columns."""
        return cls(
            data=data,
            first=lanes[0],
            depths=np.array([lane.network.depth for lane in lanes]),
            widths=np.array([lane.width for lane in lanes]),
            sizes=np.array([lane.batch_size(data) for lane in lanes]),
            epochs=np.array([lane.training.epochs for lane in lanes]),
            dropout=np.array([lane.network.dropout > 0 for lane in lanes]),
            l2=np.array([lane.network.l2 > 0 for lane in lanes]),
        )

    def part(self, start: int, end: int) -> "LaneRow":
        """Return the lanes from start to before end."""
        names = ("depths", "widths", "sizes", "epochs", "dropout", "l2")
        return dataclasses.replace(self, **{name: getattr(self, name)[start:end] for name in names})

    def programs(self, *, deepest: int | None, dtype: str) -> list[ProgramKey]:
        """Return the key of each fleet's program.

        Args:
            deepest: Of `program_depth`.
            dtype: The float type.
        """
        depths = [program_depth(depth, deepest=deepest) for depth in np.maximum.accumulate(self.depths).tolist()]
        columns = (
            np.logical_or.accumulate(self.sizes != self.sizes[0]),
            np.logical_or.accumulate(self.dropout),
            np.logical_or.accumulate(self.l2),
        )
        flags = zip(depths, *(column.tolist() for column in columns), strict=True)
        family = self.first.family
        return [ProgramKey(depth, *family, ragged, dropout, l2, dtype) for depth, ragged, dropout, l2 in flags]

    def n_bytes(self) -> npt.NDArray[np.int64]:
        """Return about how much memory each fleet takes, besides the data, in float32."""
        data, depth, width = self.data, np.maximum.accumulate(self.depths), np.maximum.accumulate(self.widths)
        weights = data.n_features * width + (depth - 1) * width * width + width * data.n_classes
        values = np.maximum.accumulate(self.sizes) * (data.n_features + depth * width)
        n_bytes: npt.NDArray[np.int64] = _WEIGHT_COPIES * weights + _VALUE_COPIES * values
        return 4 * np.arange(1, len(depth) + 1) * n_bytes


#: A number, or one for each of several fleets.
Amount = float | npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FleetWork:
    """One epoch of a fleet, counted, or of several. Padding is part of it.

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

    operations: Amount
    products: Amount
    flop: Amount
    values: Amount
    weights: Amount
    spilled: Amount
    lanes: Amount
    training_flop: Amount

    @classmethod
    def of(cls, lanes: Sequence[LaneShape], data: DataShape, *, cache_bytes: int) -> "FleetWork":
        """Count the work of an epoch of these lanes, at least one, of one family."""
        work = cls.of_row(LaneRow.of(lanes, data), cache_bytes=cache_bytes)
        return cls(**{field.name: float(getattr(work, field.name)[-1]) for field in dataclasses.fields(cls)})

    @classmethod
    def of_row(cls, row: LaneRow, *, cache_bytes: int) -> "FleetWork":
        """Count the work of an epoch of each of a row's fleets."""
        data, batch_norm = row.data, row.first.network.batch_norm
        n_lanes = np.arange(1.0, len(row.depths) + 1)
        depth, width = np.maximum.accumulate(row.depths), np.maximum.accumulate(row.widths).astype(np.float64)
        rows, steps = np.maximum.accumulate(row.sizes), np.maximum.accumulate(data.n_train // row.sizes)
        layers = np.cumsum(row.depths)
        terms = n_lanes * data.n_features * width + (layers - n_lanes) * width * width
        terms += n_lanes * width * data.n_classes
        values = layers * width * _VALUE_PASSES[batch_norm]
        values += n_lanes * (data.n_features + 8 * data.n_classes)
        training_flop = 6.0 * terms * rows * steps
        # Features, each layer's outputs and what its gradient needs of them, in 4 bytes.
        working_bytes = 4.0 * rows * (n_lanes * data.n_features + 3 * layers * width)
        return cls(
            operations=steps * (_STEP_OPERATIONS + depth * float(_LAYER_OPERATIONS[batch_norm])),
            products=steps * 3.0 * (layers + n_lanes),
            flop=training_flop + 2.0 * terms * data.n_validation,
            values=values * (rows * steps + 0.3 * data.n_validation),
            weights=terms * steps * _WEIGHT_PASSES[row.first.training.optimizer],
            spilled=values * rows * steps * np.maximum(0.0, 1.0 - cache_bytes / working_bytes),
            lanes=n_lanes,
            training_flop=training_flop,
        )

    def counted(self) -> npt.NDArray[np.float64]:
        """Return the amounts that `CostModel.prices` are for, and 1 for the epoch itself: (8,), or (fleets, 8)."""
        amounts = (self.operations, self.products, self.flop, self.values, self.weights, self.spilled, self.lanes)
        return np.stack([*amounts, np.ones_like(self.lanes)], axis=-1)


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
        return float(self.epochs_s(LaneRow.of(lanes, data))[-1])

    def epochs_s(self, row: LaneRow) -> npt.NDArray[np.float64]:
        """Return the seconds of an epoch of each of a row's fleets."""
        seconds: npt.NDArray[np.float64] = FleetWork.of_row(row, cache_bytes=self.cache_bytes).counted() @ self.prices
        return seconds

    def save(self, path: Path) -> None:
        """Keep it in a file."""
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "CostModel | None":
        """Return what a file keeps; None where there is none that can be read."""
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            prices = tuple(float(price) for price in table["prices"])
            model = cls(prices=prices, trace_s=float(table["trace_s"]), cache_bytes=int(table["cache_bytes"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        is_sound = len(prices) == len(TYPICAL.prices) and all(
            0 <= price < math.inf for price in (*prices, model.trace_s)
        )
        return model if is_sound else None


#: Prices fitted on two cores of an AMD EPYC, one thread, on 2026-11-22: where a plan is shown before any was measured.
TYPICAL: Final = CostModel(
    prices=(2.5e-6, 1.2e-6, 1.05e-11, 1.5e-10, 3.0e-10, 1.0e-10, 1.0e-4, 1.5e-3), trace_s=0.25, cache_bytes=1 << 25
)
