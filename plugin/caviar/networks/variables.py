"""The variables of a configured network by what they are, and their first values, without building the network.

A Keras model takes 40 ms to build. A fleet trains a hundred networks in that time, so it begins from their variables
alone; a test holds them equal, bit for bit, to those of the model that `build_network` returns.
"""

import dataclasses
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt

from ..config import NetworkConfig
from .build import kernel_initializer, layer_seed

Kind = Literal["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "dropout_seed"]

_NOT_TRAINABLE = ("moving_mean", "moving_variance", "dropout_seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable of a network.

    Attributes:
        kind: What it is.
        layer: The hidden layer it belongs to, from 0; the head's is ``depth``.
        shape: Its shape.
    """

    kind: Kind
    layer: int
    shape: tuple[int, ...]

    @property
    def trainable(self) -> bool:
        """Whether gradients change it."""
        return self.kind not in _NOT_TRAINABLE


def network_variables(config: NetworkConfig, *, n_features: int, n_classes: int) -> tuple[Variable, ...]:
    """Return what the variables of a network are, in the order of ``build_network(…).variables``.

    Args:
        config: The network.
        n_features: Values of one example, all axes taken together.
        n_classes: Outputs.
    """
    variables = []
    n_inputs = n_features
    for layer, width in enumerate(config.widths):
        vectors: list[Kind] = [] if config.batch_norm == "before_activation" else ["bias"]
        if config.batch_norm != "none":
            vectors += ["gamma", "beta", "moving_mean", "moving_variance"]
        variables.append(Variable(kind="kernel", layer=layer, shape=(n_inputs, width)))
        variables += [Variable(kind=kind, layer=layer, shape=(width,)) for kind in vectors]
        if config.dropout > 0:  # Keras' layer has no random state at rate 0
            variables.append(Variable(kind="dropout_seed", layer=layer, shape=(2,)))
        n_inputs = width
    variables.append(Variable(kind="kernel", layer=config.depth, shape=(n_inputs, n_classes)))
    variables.append(Variable(kind="bias", layer=config.depth, shape=(n_classes,)))
    return tuple(variables)


def initial_values(
    config: NetworkConfig, variables: tuple[Variable, ...], *, seed: int
) -> list[npt.NDArray[np.generic]]:
    """Return the first values of a network's variables: those of ``build_network`` with this seed, bit for bit.

    Args:
        config: The network.
        variables: From `network_variables`.
        seed: Gives the initial weights, at least 0.

    Returns:
        One array a variable, of Keras' float type; dropout's random state is int64.
    """
    dtype = keras.config.floatx()
    values: list[npt.NDArray[np.generic]] = []
    for variable in variables:
        if variable.kind == "kernel":
            initializer = kernel_initializer(config, layer=variable.layer, seed=seed)
            values.append(np.array(initializer(variable.shape, dtype=dtype)))
        elif variable.kind == "dropout_seed":
            values.append(np.array([layer_seed(seed, variable.layer), 0], np.int64))
        else:
            ones = variable.kind in ("gamma", "moving_variance")
            values.append((np.ones if ones else np.zeros)(variable.shape, dtype))
    return values
