"""A hidden layer of all lanes at once, forward, and backward by its formulas.

The gradients are written out, since a tape's would copy every slice of lanes and reduce every broadcast by shapes that
it computes at run time: a step would have three times the operations. Only the activation is left to the tape.

Arrays have the axes (lane, row of the batch, unit). Units beyond a lane's own width are padding: their weights are 0,
and so are their outputs and gradients.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from ...config import Activation, BatchNorm
from ...networks import BATCH_NORM_EPSILON

VECTORS: dict[BatchNorm, tuple[str, ...]] = {
    "none": ("bias",),
    "before_activation": ("gamma", "beta"),
    "after_activation": ("bias", "gamma", "beta"),
}
"""The trainable vectors of a hidden layer."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerInputs:
    """What one layer takes besides the features.

    Attributes:
        kernel: (lanes, n_inputs, n_units).
        vectors: By name, those of `VECTORS`: (lanes, 1, n_units).
        unit_mask: 1 for the lane's own units, 0 for padding, (lanes, 1, n_units), where the activation needs it; else
            None.
        inverse_batch: 1 / (rows of the lane's batch), (lanes, 1, 1); only in training, as what follows.
        row_weights: Where batches differ in size, 1 / (rows of the lane's batch), and 0 for the rows of padding,
            (lanes, 1, rows); else None.
        row_mask: The same with 1 for every row that counts, (lanes, rows, 1); else None.
        dropout_scale: What dropout multiplies by, (lanes, rows, n_units), or None.
    """

    kernel: Any
    vectors: Mapping[str, Any]
    unit_mask: Any
    inverse_batch: Any = None
    row_weights: Any = None
    row_mask: Any = None
    dropout_scale: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Normalized:
    """What batch normalisation's gradient needs of the pass forward."""

    centred: Any  # x − μ
    inverse_deviation: Any  # 1 / √(σ² + ε), (lanes, 1, units)
    factor: Any  # γ / √(σ² + ε)
    mean: Any
    variance: Any
    outputs: Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerPass:
    """A layer's pass forward.

    Attributes:
        outputs: (lanes, rows, units).
        statistics: The batch's mean and variance of each unit, (lanes, 1, units) each; empty without batch norm.
    """

    features: Any
    inputs: LayerInputs
    outputs: Any
    tape: Any
    before: Any
    after: Any
    norm: _Normalized | None

    @property
    def statistics(self) -> tuple[Any, ...]:
        """The batch's mean and variance of each unit."""
        return () if self.norm is None else (self.norm.mean, self.norm.variance)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerGradients:
    """A layer's gradients: of its kernel, of its vectors by name, and of what comes before the kernel's product."""

    kernel: Any
    vectors: Mapping[str, Any]
    product: Any


def pass_forward(features: Any, inputs: LayerInputs, *, activation: Activation, batch_norm: BatchNorm) -> LayerPass:
    """Run a hidden layer in training: product, bias, batch normalisation where it stands, activation, dropout."""
    values = tf.matmul(features, inputs.kernel)
    if "bias" in inputs.vectors:
        values += inputs.vectors["bias"]
    norm = None
    if batch_norm == "before_activation":
        norm = _normalize(values, inputs)
        values = norm.outputs
    before = values
    with tf.GradientTape() as tape:
        tape.watch(before)
        after = keras.activations.get(activation)(before)
    values = after
    if batch_norm == "after_activation":
        norm = _normalize(values, inputs)
        values = norm.outputs
    if inputs.unit_mask is not None:
        values *= inputs.unit_mask
    if inputs.dropout_scale is not None:
        values *= inputs.dropout_scale
    return LayerPass(features=features, inputs=inputs, outputs=values, tape=tape, before=before, after=after, norm=norm)


def pass_backward(layer: LayerPass, gradient: Any, *, batch_norm: BatchNorm) -> LayerGradients:
    """Return a layer's gradients from that of its outputs.

    ``gradient @ kernelᵀ``, the gradient of the features, is left to the caller: the first layer needs none.
    """
    inputs = layer.inputs
    vectors: dict[str, Any] = {}
    if inputs.dropout_scale is not None:
        gradient *= inputs.dropout_scale
    if batch_norm == "after_activation":
        gradient, vectors["gamma"], vectors["beta"] = _normalize_gradient(layer.norm, inputs, gradient)
    gradient = layer.tape.gradient(layer.after, layer.before, output_gradients=gradient)
    if batch_norm == "before_activation":
        gradient, vectors["gamma"], vectors["beta"] = _normalize_gradient(layer.norm, inputs, gradient)
    if "bias" in inputs.vectors:
        vectors["bias"] = tf.reduce_sum(gradient, axis=1, keepdims=True)
    kernel = tf.matmul(layer.features, gradient, transpose_a=True)
    return LayerGradients(kernel=kernel, vectors=vectors, product=gradient)


def pass_validation(
    features: Any,
    inputs: LayerInputs,
    moving: tuple[Any, Any] | None,
    *,
    activation: Activation,
    batch_norm: BatchNorm,
) -> Any:
    """Run a hidden layer as it predicts: with the moving statistics, without dropout.

    Args:
        features: (lanes, rows, n_inputs), or (1, rows, n_inputs) for the same examples in all lanes.
        inputs: Kernel, vectors and unit mask.
        moving: Mean and variance, (lanes, 1, n_units), or None without batch norm.
        activation: The layer's.
        batch_norm: Where it stands.
    """
    values = tf.matmul(features, inputs.kernel)
    if "bias" in inputs.vectors:
        values += inputs.vectors["bias"]
    if batch_norm == "before_activation":
        values = _apply_moving(values, inputs, moving)
    values = keras.activations.get(activation)(values)
    if batch_norm == "after_activation":
        return _apply_moving(values, inputs, moving)
    return values if inputs.unit_mask is None else values * inputs.unit_mask


def _normalize(features: Any, inputs: LayerInputs) -> _Normalized:
    mean = _mean_of_rows(features, inputs)
    centred = features - mean
    variance = _mean_of_rows(centred * centred, inputs)
    inverse_deviation = tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
    factor = inverse_deviation * inputs.vectors["gamma"]
    return _Normalized(
        centred=centred,
        inverse_deviation=inverse_deviation,
        factor=factor,
        mean=mean,
        variance=variance,
        outputs=centred * factor + inputs.vectors["beta"],
    )


def _normalize_gradient(norm: _Normalized | None, inputs: LayerInputs, gradient: Any) -> tuple[Any, Any, Any]:
    """Return the gradients of batch normalisation's input, γ and β.

    Source:
        As batch_norm.normalizer in this floor: with x̂ = c·s, c = x − μ, s = 1 / √(σ² + ε): dβ = Σg, dγ = s·Σ(g·c),
        dx = γ·s·g − (γ·s/n)·(c·s·dγ + dβ).
    """
    assert norm is not None
    of_beta = tf.reduce_sum(gradient, axis=1, keepdims=True)
    of_gamma = tf.reduce_sum(gradient * norm.centred, axis=1, keepdims=True) * norm.inverse_deviation
    share = norm.factor * inputs.inverse_batch
    slope, pull = share * of_gamma * norm.inverse_deviation, share * of_beta
    if inputs.row_mask is None:
        return gradient * norm.factor - norm.centred * slope - pull, of_gamma, of_beta
    return gradient * norm.factor - (norm.centred * slope + pull) * inputs.row_mask, of_gamma, of_beta


def _mean_of_rows(features: Any, inputs: LayerInputs) -> Any:
    if inputs.row_weights is None:
        return tf.reduce_mean(features, axis=1, keepdims=True)
    return tf.matmul(inputs.row_weights, features)


def _apply_moving(features: Any, inputs: LayerInputs, moving: tuple[Any, Any] | None) -> Any:
    assert moving is not None
    mean, variance = moving
    factor = tf.math.rsqrt(variance + BATCH_NORM_EPSILON) * inputs.vectors["gamma"]
    return (features - mean) * factor + inputs.vectors["beta"]
