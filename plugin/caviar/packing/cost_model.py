"""What an epoch of a fleet costs, in seconds: a sum of a few terms, each with a price measured on the machine."""

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

# Operations of a step outside its layers, and of one layer, counted in the traced programs.
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
    """The numbers of a data set that decide the cost; an example has n_features values."""

    n_train: int
    n_validation: int
    n_features: int
    n_classes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneShape:
    """A trial's network and training, which decide with which others it trains well."""

    network: NetworkConfig
    training: TrainingConfig

    @property
    def kind(self) -> tuple[Activation, BatchNorm, Optimizer]:
        """What the lanes of one fleet have in common."""
        return self.network.activation, self.network.batch_norm, self.training.optimizer

    @property
    def width(self) -> int:
        """Units of the widest layer."""
        return max(self.network.widths)

    def batch_size(self, data: DataShape) -> int:
        """Rows of a batch; a smaller split is one batch."""
        return min(self.training.batch_size, data.n_train)

    def flop(self, data: DataShape) -> float:
        """Return an epoch's arithmetic, without padding: three products a layer, two operations a term."""
        sizes = (data.n_features, *self.network.widths, data.n_classes)
        terms = sum(first * second for first, second in itertools.pairwise(sizes))
        size = self.batch_size(data)
        return 6.0 * terms * (data.n_train // size) * size


#: What a row keeps of each lane: hidden layers, units of the widest, rows of a batch, epochs of the whole training.
_COLUMNS: Final = np.dtype(
    [("depth", int), ("width", int), ("batch_size", int), ("epochs", int), ("dropout", bool), ("l2", bool)]
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LaneRow:
    """Lanes of one kind in a row, as columns, so that numpy computes the costs of many fleets at once.

    A fleet is here the first few lanes of the row. Methods return one element per fleet: for the first lane alone, for
    the first two, and so on.
    """

    data: DataShape
    first: LaneShape  # any lane, for what the kind has in common
    lanes: npt.NDArray[np.void]  # the columns, (n,)

    @classmethod
    def of(cls, lanes: Sequence[LaneShape], data: DataShape) -> "LaneRow":
        """Return lanes, at least one, of one kind, as a row."""
        rows = [
            (
                lane.network.depth,
                lane.width,
                lane.batch_size(data),
                lane.training.epochs,
                lane.network.dropout > 0,
                lane.network.l2 > 0,
            )
            for lane in lanes
        ]
        return cls(data=data, first=lanes[0], lanes=np.array(rows, _COLUMNS))

    def part(self, start: int, end: int) -> "LaneRow":
        """Return the lanes from start to before end."""
        return dataclasses.replace(self, lanes=self.lanes[start:end])

    def program_keys(self, *, deepest: int | None, dtype: str) -> list[ProgramKey]:
        """Return the key of each fleet's program; `program_depth` and `ProgramKey` describe the arguments."""
        depths = [program_depth(depth, deepest=deepest) for depth in self.most("depth").tolist()]
        sizes = self.lanes["batch_size"]
        columns = (
            np.logical_or.accumulate(sizes != sizes[0]),
            np.logical_or.accumulate(self.lanes["dropout"]),
            np.logical_or.accumulate(self.lanes["l2"]),
        )
        flags = zip(depths, *(column.tolist() for column in columns), strict=True)
        kind = self.first.kind
        return [ProgramKey(depth, *kind, ragged, dropout, l2, dtype) for depth, ragged, dropout, l2 in flags]

    def n_bytes(self) -> npt.NDArray[np.int64]:
        """Return about how much memory each fleet takes, besides the data, in float32."""
        data, depth, width = self.data, self.most("depth"), self.most("width")
        weights = data.n_features * width + (depth - 1) * width * width + width * data.n_classes
        values = self.most("batch_size") * (data.n_features + depth * width)
        n_bytes: npt.NDArray[np.int64] = _WEIGHT_COPIES * weights + _VALUE_COPIES * values
        return 4 * np.arange(1, len(depth) + 1) * n_bytes

    def training_flop(self) -> npt.NDArray[np.float64]:
        """Return the arithmetic of the products in an epoch's training steps, with padding."""
        return 6.0 * self._terms() * self.most("batch_size") * self._steps()

    def work(self, *, cache_bytes: int) -> npt.NDArray[np.float64]:
        """Count the work of each fleet's epoch, with padding.

        Returns:
            What `CostModel.prices` are for, (fleets, 8): operations started; lanes' matrix products; their arithmetic,
            validation included; activations and gradients passed over; weights and slots passed over; those of the
            values that the cache cannot hold; lanes, for what the host does for each; and 1 for the epoch itself.
        """
        data, batch_norm = self.data, self.first.network.batch_norm
        depth, width, rows, steps = self.most("depth"), self.most("width"), self.most("batch_size"), self._steps()
        lanes, layers, terms = np.arange(1.0, len(depth) + 1), np.cumsum(self.lanes["depth"]), self._terms()
        values = layers * width * _VALUE_PASSES[batch_norm] + lanes * (data.n_features + 8 * data.n_classes)
        # Features, each layer's outputs and what its gradient needs of them, in 4 bytes.
        working_bytes = 4.0 * rows * (lanes * data.n_features + 3 * layers * width)
        amounts = (
            steps * (_STEP_OPERATIONS + depth * float(_LAYER_OPERATIONS[batch_norm])),
            steps * 3.0 * (layers + lanes),
            self.training_flop() + 2.0 * terms * data.n_validation,
            values * (rows * steps + 0.3 * data.n_validation),
            terms * steps * _WEIGHT_PASSES[self.first.training.optimizer],
            values * rows * steps * np.maximum(0.0, 1.0 - cache_bytes / working_bytes),
            lanes,
            np.ones_like(lanes),
        )
        return np.stack(amounts, axis=-1)

    def most(self, column: str) -> npt.NDArray[np.int64]:
        """Return each fleet's largest value of a column."""
        most: npt.NDArray[np.int64] = np.maximum.accumulate(self.lanes[column])
        return most

    def _steps(self) -> npt.NDArray[np.int64]:
        steps: npt.NDArray[np.int64] = np.maximum.accumulate(self.data.n_train // self.lanes["batch_size"])
        return steps

    def _terms(self) -> npt.NDArray[np.float64]:
        """Return how many products of two numbers one example takes in each fleet's layers."""
        data, width = self.data, self.most("width").astype(np.float64)
        lanes, layers = np.arange(1.0, len(width) + 1), np.cumsum(self.lanes["depth"])
        terms: npt.NDArray[np.float64] = (lanes * (data.n_features + data.n_classes) + (layers - lanes) * width) * width
        return terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostModel:
    """Prices of a fleet's work on one machine."""

    prices: tuple[float, ...]  # seconds for one of each amount of `LaneRow.work`
    trace_s: float  # seconds that a program takes when it is new
    cache_bytes: int  # the processor's last cache

    def epoch_s(self, lanes: Sequence[LaneShape], data: DataShape) -> float:
        """Return the seconds of an epoch of a fleet of these lanes, at least one, of one kind."""
        return float(self.epochs_s(LaneRow.of(lanes, data))[-1])

    def epochs_s(self, row: LaneRow) -> npt.NDArray[np.float64]:
        """Return the seconds of an epoch of each of a row's fleets."""
        seconds: npt.NDArray[np.float64] = row.work(cache_bytes=self.cache_bytes) @ self.prices
        return seconds

    def save(self, path: Path) -> None:
        """Write it to a file."""
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "CostModel | None":
        """Read it from a file; return None if there is none, or it is damaged."""
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


#: Fitted on two cores of an AMD EPYC, one thread, on 2026-11-22: for a plan that is shown before prices are measured.
TYPICAL: Final = CostModel(
    prices=(2.5e-6, 1.2e-6, 1.05e-11, 1.5e-10, 3.0e-10, 1.0e-10, 1.0e-4, 1.5e-3), trace_s=0.25, cache_bytes=1 << 25
)
