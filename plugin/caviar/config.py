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
    """A dense softmax classifier: ``depth`` hidden layers, then one logit a class.

    Attributes:
        depth: Hidden layers, at least 1.
        units: Width of every hidden layer, or a tuple with one width a layer, each at least 1.
        activation: Non-linearity of the hidden layers.
        batch_norm: Where batch normalisation stands in a hidden layer. Before the activation it follows the dense
            layer directly, which then has no bias: the normalisation would subtract it again.
        batch_norm_momentum: Share of the old value in each update of the moving mean and variance, in [0, 1).
            0.9, not Keras' 0.99, which lags for the first epochs on small data and makes pruning unfair to batch norm.
        dropout: Share of a hidden layer's outputs dropped in training, in [0, 1).
        l2: Factor of the sum of squared kernel weights added to the loss, at least 0. Biases and batch
            normalisation's parameters are not penalised.

    Raises:
        SpaceError: If a value is outside its range.
    """

    depth: int = 2
    units: int | tuple[int, ...] = 64
    activation: Activation = "relu"
    batch_norm: BatchNorm = "none"
    batch_norm_momentum: float = 0.9
    dropout: float = 0.0
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
    """How a network is trained.

    Attributes:
        epochs: Passes over the training split, at least 1. Cosine decay ends here.
        batch_size: Examples a step, at least 1; a smaller split is one batch.
        optimizer: Update rule: ``sgd`` with momentum, ``adam`` or ``rmsprop``.
        learning_rate: First step size α, above 0.
        momentum: β in [0, 1): SGD's momentum, Adam's beta_1, RMSprop's momentum.
        decay: The learning rate's schedule, with t = epochs done, fractional within an epoch:
            ``none``: α; ``exponential``: α·(1 − decay_rate)^t; ``inverse_time``: α / (1 + decay_rate·t);
            ``cosine``: α·(1 + cos(π·t / epochs)) / 2.
        decay_rate: How fast the learning rate falls with each epoch, at least 0, below 1 if the decay is exponential.
            0.05 gives the course's 0.95^t.

    Raises:
        SpaceError: If a value is outside its range.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    decay: Decay = "none"
    decay_rate: float = 0.05

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
