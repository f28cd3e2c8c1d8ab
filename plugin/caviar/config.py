"""What a network and its training are built from: frozen values, checked when made."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from .errors import SpaceError, nearest_name

#: Largest sensible values: deeper networks take minutes to trace, and no machine can hold more units or epochs.
MAX_DEPTH = 200
MAX_UNITS = 1_000_000
MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = 1_000_000_000

Activation = Literal["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "leaky_relu"]
BatchNorm = Literal["none", "before_activation", "after_activation"]
Optimizer = Literal["sgd", "adam", "rmsprop"]
Decay = Literal["none", "exponential", "inverse_time", "cosine"]

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": get_args(Activation),
    "batch_norm": get_args(BatchNorm),
    "optimizer": get_args(Optimizer),
    "decay": get_args(Decay),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A dense softmax classifier: hidden layers, then a logit a class. Raises SpaceError if a value is out of range."""

    depth: int = 2  # hidden layers, at least 1
    units: int | tuple[int, ...] = 64  # width of every hidden layer, or one width a layer, each at least 1
    activation: Activation = "relu"  # of the hidden layers
    # Before the activation it follows the dense layer directly, which then has no bias: it would subtract it again.
    batch_norm: BatchNorm = "none"
    # Share of the old value in each update of the moving mean and variance, in [0, 1). Keras' 0.99 lags for the first
    # epochs on small data, which makes pruning unfair to batch norm.
    batch_norm_momentum: float = 0.9
    dropout: float = 0.0  # share of a hidden layer's outputs dropped in training, in [0, 1)
    # Factor of the kernels' sum of squares in the loss, at least 0; biases and batch norm's are not penalised.
    l2: float = 0.0

    def __post_init__(self) -> None:
        _check_integer("depth", self.depth, MAX_DEPTH)
        widths = self.units if isinstance(self.units, tuple) else (self.units,)
        for width in widths:
            _check_integer("units", width, MAX_UNITS)
        if isinstance(self.units, tuple) and len(self.units) != self.depth:
            raise SpaceError(
                f"units names a width for each hidden layer, so it needs {self.depth} of them, but got {self.units}."
            )
        _check_choice("activation", self.activation)
        _check_choice("batch_norm", self.batch_norm)
        _check_range("batch_norm_momentum", self.batch_norm_momentum, 0.0, 1.0)
        _check_range("dropout", self.dropout, 0.0, 1.0)
        _check_range("l2", self.l2, 0.0, math.inf)

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each hidden layer, from the input to the head."""
        return self.units if isinstance(self.units, tuple) else (self.units,) * self.depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained; raises SpaceError if a value is outside its range."""

    epochs: int = 20  # passes over the training split, at least 1. Cosine decay ends here
    batch_size: int = 64  # examples a step, at least 1; a smaller split is one batch
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01  # first step size α, above 0
    momentum: float = 0.9  # β in [0, 1): SGD's momentum, Adam's beta_1, RMSprop's momentum
    # The learning rate after t epochs, fractional within one. none: α; exponential: α·(1 − decay_rate)^t; inverse_time:
    # α / (1 + decay_rate·t); cosine: α·(1 + cos(π·t / epochs)) / 2.
    decay: Decay = "none"
    decay_rate: float = 0.05  # at least 0, below 1 if the decay is exponential; 0.05 gives the course's 0.95^t

    def __post_init__(self) -> None:
        _check_integer("epochs", self.epochs, MAX_EPOCHS)
        _check_integer("batch_size", self.batch_size, MAX_BATCH_SIZE)
        _check_choice("optimizer", self.optimizer)
        _check_choice("decay", self.decay)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SpaceError(f"learning_rate must be above 0, but got {self.learning_rate}.")
        _check_range("momentum", self.momentum, 0.0, 1.0)
        _check_range("decay_rate", self.decay_rate, 0.0, 1.0 if self.decay == "exponential" else math.inf)


def _check_integer(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpaceError(f"{name} must be a whole number of at least 1, but got {value!r}.")
    if value > most:
        raise SpaceError(f"{name} must be at most {most}, but got {value}.")


def _check_choice(name: str, value: str) -> None:
    if value not in CHOICES[name]:
        raise SpaceError(f"{name} has no choice {value!r}. {nearest_name(str(value), CHOICES[name])}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise SpaceError(f"{name} must be at least {low} and below {high}, but got {value!r}.")


#: Every hyperparameter's value where a study neither draws nor fixes it, and the epochs.
DEFAULTS: Final[Mapping[str, Any]] = {**dataclasses.asdict(NetworkConfig()), **dataclasses.asdict(TrainingConfig())}
