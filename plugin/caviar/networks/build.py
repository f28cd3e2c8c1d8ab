"""NetworkConfig → an ordinary Keras model that outputs logits."""

import math
from typing import Any

import keras
import numpy as np

from ..config import NetworkConfig
from .normalization import Statistics

# Keras' own value, named so that other programs (the fleet's) can use the same.
BATCH_NORM_EPSILON = 1e-3

# He keeps the variance of a layer's outputs where the activation passes about half of its input (the relu family).
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

    It is what a user of Keras would write: it can be compiled, fitted, saved and summarised by Keras alone. Compile it
    with ``SparseCategoricalCrossentropy(from_logits=True)``, or export it with `with_probabilities`.

    The layers, with k from 1: Input, Flatten (for features of several axes), Normalization, then ``depth`` times
    ``hidden_k``, ``batch_norm_k`` and ``activation_k`` in the order of the placement, ``dropout_k``, and the head
    ``logits``. The dropout layer is there at rate 0 too, where it does nothing, so that the rate can be raised while
    the network trains.

    Args:
        config: Depth, widths, activation, placement of batch normalisation, dropout, L2. L2 penalises the kernels of
            the hidden layers and of the head, no other weight; at 0 the kernels carry no regularizer.
        feature_shape: Shape of one example, without the batch axis.
        n_classes: Outputs, at least 2.
        normalization: Mean and variance of each feature, from `fit_normalization`; None to leave the inputs alone. In
            float64, the network takes float64, subtracts the mean and divides in it, and goes on in Keras' float type.
        seed: Gives the initial weights, at least 0: the same seed, the same weights, on any machine. Each layer draws
            from a seed of its own, so two networks of different depth begin with the same first layers.

    Returns:
        A keras.Model of float32, or of the float type that Keras' policy sets.

    Shapes:
        Input (n, *feature_shape), any number type; output (n, n_classes).

    Raises:
        ValueError: If n_classes is below 2, or the normalisation has not one value a feature.

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
        kernel_initializer=kernel_initializer(config, layer=config.depth, seed=seed),
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
        # Not Normalization, which divides by 1e-7 at least. One Rescaling alone would multiply before it subtracts.
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
        kernel_initializer=kernel_initializer(config, layer=index, seed=seed),
        kernel_regularizer=_penalty(config),
        name=f"hidden_{number}",
    )(x)
    if config.batch_norm == "before_activation":
        x = _batch_norm(config, number)(x)
    x = keras.layers.Activation(config.activation, name=f"activation_{number}")(x)
    if config.batch_norm == "after_activation":
        x = _batch_norm(config, number)(x)
    return keras.layers.Dropout(config.dropout, seed=layer_seed(seed, index), name=f"dropout_{number}")(x)


def _batch_norm(config: NetworkConfig, number: int) -> Any:
    return keras.layers.BatchNormalization(
        momentum=config.batch_norm_momentum, epsilon=BATCH_NORM_EPSILON, name=f"batch_norm_{number}"
    )


def _penalty(config: NetworkConfig) -> Any:
    return keras.regularizers.L2(config.l2) if config.l2 > 0 else None


def kernel_initializer(config: NetworkConfig, *, layer: int, seed: int) -> Any:
    """Return what draws the kernel of a layer: hidden ones from 0, and the head, which is layer ``depth``."""
    kind = keras.initializers.GlorotUniform if layer == config.depth else _INITIALIZERS[config.activation]
    return kind(seed=layer_seed(seed, layer))


def layer_seed(seed: int, index: int) -> int:
    """Return the seed that a layer's random numbers begin with, from that of the network."""
    # Neighbouring numbers as seeds of neighbouring layers would repeat: seed 1's first layer would be seed 0's second.
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0] >> 1)
