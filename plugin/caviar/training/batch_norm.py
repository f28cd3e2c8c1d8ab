"""Batch normalisation in training with its gradient written out, which takes fewer operations than Keras' layer."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import record


def can_normalize(layer: Any) -> bool:
    """Say whether `normalizer` can stand in for a layer: a plain BatchNormalization of flat features that trains."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and len(layer.input.shape) == 2
        and layer.trainable
        and layer.center
        and layer.scale
        and not layer.renorm
        and not layer.synchronized
        and layer.compute_dtype == layer.variable_dtype
    )


def normalizer(layer: Any) -> Callable[[Any], Any]:
    """Return a function that computes what a BatchNormalization layer does in training, and updates its statistics.

    Keras' layer and the gradient that a tape makes of it are 49 operations a step; these are 28. A small network with
    three such layers takes an eighth less time a step, and a sixth less until its first epoch is done.

    Args:
        layer: A layer that `can_normalize` accepts. Its variables are used and its moving statistics updated.

    Returns:
        A function of features (n, units), n known when it is traced, that gives the normalised features.

    Source:
        Ioffe and Szegedy, ICML 2015: with x̂ = (x − μ) / √(σ² + ε), y = γ·x̂ + β and g the gradient of y:
        dβ = Σg, dγ = Σ(g·x̂), dx = γ / √(σ² + ε) · (g − (dβ + x̂·dγ) / n), sums over the batch.
    """

    def normalize(features: Any) -> Any:
        if getattr(features, "_keras_mask", None) is not None:
            return layer(features, training=True)
        gamma, beta = layer.gamma.value.read_value(), layer.beta.value.read_value()
        with record.stop_recording():
            mean = tf.reduce_mean(features, axis=0)
            centred = features - mean
            variance = tf.reduce_mean(centred * centred, axis=0)
            scale = tf.math.rsqrt(variance + layer.epsilon)
            normalised = centred * scale
            outputs = gamma * normalised + beta
            _move(layer.moving_mean.value, mean, momentum=layer.momentum)
            _move(layer.moving_variance.value, variance, momentum=layer.momentum)

        def gradients(gradient: Any) -> list[Any]:
            of_beta = tf.reduce_sum(gradient, axis=0)
            of_gamma = tf.reduce_sum(gradient * normalised, axis=0)
            mean_pull = (of_beta + normalised * of_gamma) * (1.0 / features.shape[0])
            return [gamma * scale * (gradient - mean_pull), of_gamma, of_beta]

        _record(outputs, [features, gamma, beta], gradients)
        return outputs

    return normalize


def _move(moving: Any, value: Any, *, momentum: float) -> None:
    """Move a statistic: moving := momentum · moving + (1 − momentum) · value."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=moving.handle, alpha=tf.constant(1.0 - momentum, value.dtype), delta=moving.read_value() - value
    )


def _record(outputs: Any, inputs: list[Any], gradients: Callable[[Any], list[Any]]) -> None:
    """Tell the tape the gradient of outputs that it did not see made.

    Private to TensorFlow. The public way, tf.custom_gradient, registers every call made in a graph in a table of the
    process, for ever: each trial's graph would stay in memory.
    """
    record.record_operation("BatchNormalization", [outputs], inputs, gradients)
