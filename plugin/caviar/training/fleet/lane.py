"""One lane of a fleet: its configuration, and what of it lives on the host."""

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...config import NetworkConfig, TrainingConfig
from ...networks import initial_values, network_variables
from ..trainer import LaneState
from ..update_rules import SLOTS
from .data import FleetData
from .stacks import Array, LaneArrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """One network to train in a fleet.

    Attributes:
        network: The network.
        training: Batch size, update rule, decay, and the first values of the hyperparameters.
        seed: At least 0; gives the initial weights, those of ``build_network`` with this seed, the order of the
            examples and the dropout masks.
    """

    network: NetworkConfig
    training: TrainingConfig
    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, but got {self.seed}.")


class RunningLane:
    """A lane in training: the numbers that the host keeps of it."""

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
        self._slot_names: Final = SLOTS[training.optimizer]

    def initial_arrays(self, data: FleetData) -> LaneArrays:
        """Return the variables that the Keras network of this lane begins with, and slots of zeros."""
        network = self.spec.network
        variables = network_variables(network, n_features=data.n_features, n_classes=data.n_classes)
        values = initial_values(network, variables, seed=self.spec.seed)
        trained = [value for variable, value in zip(variables, values, strict=True) if variable.trainable]
        slots: list[list[Array]] = [[np.zeros_like(value) for value in trained] for _ in self._slot_names]
        return LaneArrays(network=network, variables=variables, values=values, slots=slots)

    def state(self, arrays: LaneArrays) -> LaneState:
        """Return the lane's whole state; see `Trainer.lane_state`."""
        state: LaneState = {"epoch": np.array(self.epoch, np.int64), "seed": np.array(self.seed, np.uint64)}
        state |= {f"hyperparameter.{name}": value.copy() for name, value in self.live.items()}
        state |= {f"variable.{i}": np.array(value) for i, value in enumerate(arrays.values)}
        for name, slot in zip(self._slot_names, arrays.slots, strict=True):
            state |= {f"slot.{name}.{i}": np.array(value) for i, value in enumerate(slot)}
        return state

    def load(self, state: Any, arrays: LaneArrays) -> LaneArrays:
        """Take over a checked state, and return its arrays."""
        self.epoch, self.seed = int(state["epoch"]), int(state["seed"])
        self.live = {name: np.array(state[f"hyperparameter.{name}"], np.float64) for name in self.live}
        return dataclasses.replace(
            arrays,
            values=[np.array(state[f"variable.{i}"]) for i in range(len(arrays.values))],
            slots=[
                [np.array(state[f"slot.{name}.{i}"]) for i in range(len(slot))]
                for name, slot in zip(self._slot_names, arrays.slots, strict=True)
            ],
        )
