"""One lane of a fleet: its configuration, and what of it lives on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from ...config import NetworkConfig, TrainingConfig
from ...networks import Variable, initial_values, network_variables
from ..trainer import LaneState
from ..update_rules import SLOTS
from .data import FleetData

Array = npt.NDArray[np.generic]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """One network to train in a fleet.

    Attributes:
        network: The network.
        training: Batch size, update rule, decay, and the first values of the hyperparameters.
        seed: At least 0; decides the initial weights, those of ``build_network`` with this seed, the order of the
            examples, and the dropout masks.
    """

    network: NetworkConfig
    training: TrainingConfig
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
        parts: dict[str, tuple[Variable, int | None]] = {
            f"variable.{i}": (part, None) for i, part in enumerate(variables)
        }
        trainable = [variable for variable in variables if variable.trainable]
        for slot, name in enumerate(SLOTS[training.optimizer]):
            for i, variable in enumerate(trainable):
                self.arrays[f"slot.{name}.{i}"] = np.zeros(variable.shape, values[0].dtype)
                parts[f"slot.{name}.{i}"] = (variable, slot)
        self.parts: Final = parts

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
