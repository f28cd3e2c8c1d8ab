"""A hidden layer of all lanes at once, forward, and backward by its formulas.

The gradients are written out, because a tape would copy every slice of lanes and reduce every broadcast by shapes that
it computes at run time: a step would have three times the operations. Only the activation is left to the tape.

Arrays have the axes (lane, row of the batch, unit). Units beyond a lane's own width are padding: their weights are 0,
and so are their outputs and gradients.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from ...config import BatchNorm
from ...networks import BATCH_NORM_EPSILON
from ...program_key import ProgramKey

VECTORS: dict[BatchNorm, tuple[str, ...]] = {
    "none": ("bias",),
    "before_activation": ("gamma", "beta"),
    "after_activation": ("bias", "gamma", "beta"),
}
"""The trainable vectors of a hidden layer."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerConstants:
    """What one layer takes from the epoch's plan, cut to the lanes that have the layer; None where it is not needed."""

    inverse_batch: Any  # 1 / (rows of the lane's batch), (lanes, 1, 1)
    row_weights: Any  # if batches differ in size: inverse_batch for rows that count, 0 for padding, (lanes, 1, rows)
    row_mask: Any  # if batches differ in size: 1 for rows that count, 0 for padding, (lanes, rows, 1)
    unit_mask: Any  # if the activation of 0 is not 0: 1 for the lane's own units, 0 for padding, (lanes, 1, units)
    dropout: Any  # share dropped, (lanes, 1)
    split: Any  # lanes that go on to the next layer, and lanes that end here, int32 (2,)


class LayerPass:
    """A hidden layer's pass in training: product, bias, batch normalisation where it stands, activation, dropout.

    Attributes:
        outputs: What the next layer takes.
        statistics: The batch's mean and variance of each unit; empty without batch norm.

    Shapes:
        features (lanes, rows, n_inputs); kernel (lanes, n_inputs, units); each of the vectors and statistics
        (lanes, 1, units); dropout_scale, what dropout multiplies by, or None, and outputs (lanes, rows, units).
    """

    def __init__(
        self,
        features: Any,
        kernel: Any,
        vectors: Mapping[str, Any],
        own: LayerConstants,
        *,
        key: ProgramKey,
        dropout_scale: Any,
    ) -> None:
        self._features, self._vectors, self._own, self._key = features, vectors, own, key
        self._dropout_scale = dropout_scale
        self.statistics: tuple[Any, ...] = ()
        values = _product(features, kernel, vectors)
        if key.batch_norm == "before_activation":
            values = self._normalize(values)
        self._before = values
        with tf.GradientTape() as tape:
            tape.watch(values)
            self._after = keras.activations.get(key.activation)(values)
        self._tape = tape
        values = self._after
        if key.batch_norm == "after_activation":
            values = self._normalize(values)
        if own.unit_mask is not None:
            values *= own.unit_mask
        if dropout_scale is not None:
            values *= dropout_scale
        self.outputs = values

    def backward(self, gradient: Any) -> tuple[Any, dict[str, Any], Any]:
        """Return the gradients of the kernel, of the vectors by name, and of the product, from the outputs' gradient.

        The gradient of the features, product's gradient @ kernelᵀ, is left to the caller: the first layer needs none.
        """
        vectors: dict[str, Any] = {}
        if self._dropout_scale is not None:
            gradient *= self._dropout_scale
        if self._key.batch_norm == "after_activation":
            gradient, vectors["gamma"], vectors["beta"] = self._normalize_backward(gradient)
        gradient = self._tape.gradient(self._after, self._before, output_gradients=gradient)
        if self._key.batch_norm == "before_activation":
            gradient, vectors["gamma"], vectors["beta"] = self._normalize_backward(gradient)
        if "bias" in self._vectors:
            vectors["bias"] = tf.reduce_sum(gradient, axis=1, keepdims=True)
        return tf.matmul(self._features, gradient, transpose_a=True), vectors, gradient

    def _normalize(self, features: Any) -> Any:
        mean = self._mean_of_rows(features)
        self._centred = features - mean
        variance = self._mean_of_rows(self._centred * self._centred)
        self._inverse_deviation = tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
        self._factor = self._inverse_deviation * self._vectors["gamma"]
        self.statistics = (mean, variance)
        return self._centred * self._factor + self._vectors["beta"]

    def _normalize_backward(self, gradient: Any) -> tuple[Any, Any, Any]:
        """Return the gradients of batch normalisation's input, γ and β.

        Source:
            Ioffe and Szegedy, ICML 2015: with y = γ·c·s + β, c = x − μ, s = 1 / √(σ² + ε), g the gradient of y and sums
            over the n rows of the batch: dβ = Σg, dγ = s·Σ(g·c), dx = γ·s·g − (γ·s/n)·(c·s·dγ + dβ).
        """
        of_beta = tf.reduce_sum(gradient, axis=1, keepdims=True)
        of_gamma = tf.reduce_sum(gradient * self._centred, axis=1, keepdims=True) * self._inverse_deviation
        share = self._factor * self._own.inverse_batch
        slope, pull = share * of_gamma * self._inverse_deviation, share * of_beta
        if self._own.row_mask is None:
            return gradient * self._factor - self._centred * slope - pull, of_gamma, of_beta
        return gradient * self._factor - (self._centred * slope + pull) * self._own.row_mask, of_gamma, of_beta

    def _mean_of_rows(self, features: Any) -> Any:
        if self._own.row_weights is None:
            return tf.reduce_mean(features, axis=1, keepdims=True)
        return tf.matmul(self._own.row_weights, features)


def predict_layer(
    features: Any, kernel: Any, vectors: Mapping[str, Any], *, key: ProgramKey, moving: Any, unit_mask: Any
) -> Any:
    """Run a hidden layer as it predicts: with the moving mean and variance, (lanes, 1, units), and without dropout."""
    values = _product(features, kernel, vectors)
    if key.batch_norm == "before_activation":
        values = _apply_moving(values, vectors, moving)
    values = keras.activations.get(key.activation)(values)
    if key.batch_norm == "after_activation":
        return _apply_moving(values, vectors, moving)
    return values if unit_mask is None else values * unit_mask


def _product(features: Any, kernel: Any, vectors: Mapping[str, Any]) -> Any:
    values = tf.matmul(features, kernel)
    return values + vectors["bias"] if "bias" in vectors else values


def _apply_moving(features: Any, vectors: Mapping[str, Any], moving: tuple[Any, Any]) -> Any:
    mean, variance = moving
    factor = tf.math.rsqrt(variance + BATCH_NORM_EPSILON) * vectors["gamma"]
    return (features - mean) * factor + vectors["beta"]
