"""NetworkConfig → an ordinary Keras model that outputs logits; or its variables alone.

A Keras model takes 40 ms to build. A fleet trains a hundred networks in that time, so it starts from their variables
alone; a test compares them, bit for bit, with those of the model that `build_network` returns.
"""

import dataclasses
import math
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from ..config import NetworkConfig
from .normalization import Statistics

# Keras' own value, named so that the fleet's programs can use the same.
BATCH_NORM_EPSILON = 1e-3

# He keeps the variance of a layer's outputs if the activation passes about half of its input (the relu family).
# Glorot keeps it for activations that are near the identity around 0 (tanh) or saturate on both sides (sigmoid).
# Selu normalises itself only from LeCun's variance, 1/fan-in (Klambauer et al., NeurIPS 2017).
_INITIALIZERS: dict[str, Any] = {
    "relu": keras.initializers.HeNormal,
    "leaky_relu": keras.initializers.HeNormal,
    "elu": keras.initializers.HeNormal,
    "gelu": keras.initializers.HeNormal,
    "silu": keras.initializers.HeNormal,
    "selu": keras.initializers.LecunNormal,
    "tanh": keras.initializers.GlorotUniform,
    "sigmoid": keras.initializers.GlorotUniform,
}


def build_network(
    config: NetworkConfig,
    *,
    feature_shape: tuple[int, ...],
    n_classes: int,
    normalization: Statistics | None,
    seed: int,
) -> Any:
    """Return a dense classifier as a stock Keras functional model that outputs logits.

    It is what a user of Keras would write: Keras alone can compile, fit, save and summarise it. Compile it with
    ``SparseCategoricalCrossentropy(from_logits=True)``, or export it with `with_probabilities`.

    The layers, with k from 1: Input, Flatten (for features of several axes), Normalization, then ``depth`` times
    ``hidden_k``, ``batch_norm_k`` and ``activation_k`` in the order of the placement, ``dropout_k``, and the head
    ``logits``. The dropout layer exists at rate 0 too, where it does nothing, so that the rate can be raised while
    the network trains.

    Args:
        config: L2 penalises the kernels of the hidden layers and of the head, no other weight; at 0 the kernels carry
            no regularizer.
        feature_shape: Shape of one example, without the batch axis.
        n_classes: Outputs, at least 2.
        normalization: Mean and variance of each feature, from `fit_normalization`; None to leave the inputs alone. If
            they are float64, the network takes float64 and normalises in it, then continues in Keras' float type.
        seed: At least 0. The same seed gives the same initial weights on any machine. Each layer draws from a seed of
            its own, so two networks of different depth begin with the same first layers.

    Shapes:
        Input (n, *feature_shape), any number type; output (n, n_classes), of the float type that Keras' policy sets.

    Raises:
        ValueError: If n_classes is below 2, or the normalisation does not have one value a feature.

    Source:
        He et al., ICCV 2015 (the relu family); Glorot and Bengio, AISTATS 2010 (others, and the head);
        Ioffe and Szegedy, ICML 2015 (batch normalisation, and no bias before it).
    """
    if n_classes < 2:
        raise ValueError(f"A classifier needs n_classes of at least 2, but got {n_classes}.")
    is_wide = normalization is not None and normalization[0].dtype == np.float64
    inputs = keras.Input(feature_shape, name="features", dtype="float64" if is_wide else None)
    flatten = keras.layers.Flatten(name="flatten", dtype="float64" if is_wide else None)
    x = inputs if len(feature_shape) == 1 else flatten(inputs)
    if normalization is not None:
        for layer in _normalization_layers(normalization, n_features=math.prod(feature_shape)):
            x = layer(x)
    for index, width in enumerate(config.widths):
        x = _hidden_layer(config, x, width=width, index=index, seed=seed)
    head = keras.layers.Dense(
        n_classes,
        kernel_initializer=_kernel_initializer(config, layer=config.depth, seed=seed),
        kernel_regularizer=_penalty(config),
        name="logits",
    )
    return keras.Model(inputs, head(x), name="network")


def _normalization_layers(statistics: Statistics, *, n_features: int) -> list[Any]:
    mean, variance = (values.reshape(-1) for values in statistics)
    if mean.size != n_features or variance.size != n_features:
        raise ValueError(
            f"The normalisation needs one mean and one variance for each of {n_features} features, but got "
            f"{mean.size} and {variance.size}. Use fit_normalization on the same features."
        )
    if mean.dtype == np.float64:
        # Not Normalization, which divides by 1e-7 at least. A single Rescaling would multiply before it subtracts.
        return [
            keras.layers.Rescaling(1.0, offset=-mean, dtype="float64", name="centering"),
            keras.layers.Rescaling(1.0 / np.sqrt(variance), dtype="float64", name="normalization"),
        ]
    return [keras.layers.Normalization(mean=mean, variance=variance, name="normalization")]


def _hidden_layer(config: NetworkConfig, x: Any, *, width: int, index: int, seed: int) -> Any:
    number = index + 1
    x = keras.layers.Dense(
        width,
        # The normalisation would subtract a bias again.
        use_bias=config.batch_norm != "before_activation",
        kernel_initializer=_kernel_initializer(config, layer=index, seed=seed),
        kernel_regularizer=_penalty(config),
        name=f"hidden_{number}",
    )(x)
    if config.batch_norm == "before_activation":
        x = _batch_norm(config, number)(x)
    x = keras.layers.Activation(config.activation, name=f"activation_{number}")(x)
    if config.batch_norm == "after_activation":
        x = _batch_norm(config, number)(x)
    return keras.layers.Dropout(config.dropout, seed=_layer_seed(seed, index), name=f"dropout_{number}")(x)


def _batch_norm(config: NetworkConfig, number: int) -> Any:
    return keras.layers.BatchNormalization(
        momentum=config.batch_norm_momentum, epsilon=BATCH_NORM_EPSILON, name=f"batch_norm_{number}"
    )


def _penalty(config: NetworkConfig) -> Any:
    return keras.regularizers.L2(config.l2) if config.l2 > 0 else None


def _kernel_initializer(config: NetworkConfig, *, layer: int, seed: int) -> Any:
    """Return the initializer of a layer's kernel: hidden layers from 0, and the head, which is layer ``depth``."""
    kind = keras.initializers.GlorotUniform if layer == config.depth else _INITIALIZERS[config.activation]
    return kind(seed=_layer_seed(seed, layer))


def _layer_seed(seed: int, layer: int) -> int:
    # Neighbouring numbers as seeds of neighbouring layers would repeat: seed 1's first layer would be seed 0's second.
    return int(np.random.SeedSequence((seed, layer)).generate_state(1)[0] >> 1)


Kind = Literal["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "dropout_seed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable of a network."""

    kind: Kind
    layer: int  # the hidden layer it belongs to, from 0; the head's is depth
    shape: tuple[int, ...]

    @property
    def trainable(self) -> bool:
        """Whether gradients change it."""
        return self.kind not in ("moving_mean", "moving_variance", "dropout_seed")


def network_variables(config: NetworkConfig, *, n_features: int, n_classes: int) -> tuple[Variable, ...]:
    """Return the variables of a network, in the order of ``build_network(…).variables``."""
    variables = []
    n_inputs = n_features
    for layer, width in enumerate(config.widths):
        variables.append(Variable(kind="kernel", layer=layer, shape=(n_inputs, width)))
        if config.batch_norm != "before_activation":
            variables.append(Variable(kind="bias", layer=layer, shape=(width,)))
        if config.batch_norm != "none":
            kinds: tuple[Kind, ...] = ("gamma", "beta", "moving_mean", "moving_variance")
            variables += [Variable(kind=kind, layer=layer, shape=(width,)) for kind in kinds]
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

    They are of Keras' float type, except dropout's random state, which is int64.
    """
    dtype = keras.config.floatx()
    values: list[npt.NDArray[np.generic]] = []
    for variable in variables:
        if variable.kind == "kernel":
            initializer = _kernel_initializer(config, layer=variable.layer, seed=seed)
            values.append(np.array(initializer(variable.shape, dtype=dtype)))
        elif variable.kind == "dropout_seed":
            values.append(np.array([_layer_seed(seed, variable.layer), 0], np.int64))
        else:
            ones = variable.kind in ("gamma", "moving_variance")
            values.append((np.ones if ones else np.zeros)(variable.shape, dtype))
    return values
