"""Running a user's Keras model inside the compiled epoch, with its dropout rates and L2 factors as variables."""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .randomness import dropout_column_keys, keep_scale


def find_dropouts(model: Any) -> list[Any]:
    """Return the Dropout layers whose masks and rates are ours, in the model's order.

    Those are the plain ones of functional and sequential models and of such models inside them. A subclassed model
    keeps its own, since only its code knows where its layers stand; so do Dropout layers with a noise_shape or with
    axes of unknown length.
    """
    return [
        layer
        for layer in _plain_layers(model)
        if type(layer) is keras.layers.Dropout and layer.noise_shape is None and None not in layer.output.shape[1:]
    ]


class DropoutMasks:
    """The masks of all dropout layers of a network, drawn together once a step.

    One tf.cond holds the masks of all layers, so that a rate of 0 costs almost nothing: tracing a cond takes 20 ms. The
    layers, at least one, are those of `find_dropouts`; the rates, float64 (n_layers,), those of this epoch.
    """

    def __init__(self, layers: Sequence[Any], rates: Any) -> None:
        self._layers = layers
        self._sizes = [math.prod(layer.output.shape[1:]) for layer in layers]
        self._column_keys = np.concatenate([dropout_column_keys(i, size) for i, size in enumerate(self._sizes)])
        self._any = tf.reduce_any(rates > 0)
        self._rates = tf.gather(rates, np.repeat(np.arange(len(layers)), self._sizes))

    @contextlib.contextmanager
    def in_place(self, row_keys: Any) -> Iterator[None]:
        """Make the layers multiply by the masks of one step, of uint32 row keys (batch_size,), inside this context.

        Meanwhile each layer's ``call`` is replaced: Keras still runs the model, casts, and passes its own masks on.
        clone_model, Keras' way to exchange layers, takes 40 ms a trial and leaves a second node on each layer.
        """
        kind = self._layers[0].compute_dtype
        scales = tf.cond(
            self._any,
            lambda: keep_scale(row_keys, self._column_keys, tf.cast(self._rates, kind)),
            lambda: tf.ones((row_keys.shape[0], sum(self._sizes)), kind),
        )
        parts = tf.split(scales, self._sizes, axis=-1)
        try:
            for layer, scale in zip(self._layers, parts, strict=True):
                layer.call = functools.partial(_multiply, scale)
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("call", None)


def _multiply(scale: Any, inputs: Any, **_: object) -> Any:
    # A reshape to the same shape is an operation too, so dense layers skip it.
    shaped = scale if inputs.shape == scale.shape else tf.reshape(scale, inputs.shape)
    return inputs * tf.cast(shaped, inputs.dtype)


def find_kernels(trainable: Sequence[Any]) -> dict[int, float]:
    """Return the weights that the hyperparameter l2 penalises, by their place in ``trainable``, and their factors.

    Those are the weights with a keras.regularizers.L2; in a model with none, every weight named ``kernel``, at 0.
    """
    penalized = {
        index: float(weight.regularizer.l2)
        for index, weight in enumerate(trainable)
        if type(weight.regularizer) is keras.regularizers.L2
    }
    return penalized or {index: 0.0 for index, weight in enumerate(trainable) if weight.name == "kernel"}


def other_penalties(model: Any, kernels: Sequence[Any]) -> list[Any]:
    """Return the losses that a model added in the pass just made, except the L2 penalties of these kernels."""
    regularizers = [kernel.regularizer for kernel in kernels]
    try:
        for kernel in kernels:
            kernel.regularizer = None
        return list(model.losses)
    finally:
        for kernel, regularizer in zip(kernels, regularizers, strict=True):
            kernel.regularizer = regularizer


def _plain_layers(model: Any) -> Iterator[Any]:
    """Yield the layers of a functional or sequential model, including those of such models inside it."""
    # Exactly these types: a subclass may have a call of its own, which does not run the graph of layers.
    if type(model) not in _stock_types():
        yield model
    else:
        for layer in model.layers:
            yield from _plain_layers(layer)


@functools.cache
def _stock_types() -> tuple[type, type]:
    """Return Keras' own model classes; that of functional models has no public name, so ask a model for it."""
    inputs = keras.Input((1,), name="inputs")
    return keras.Sequential, type(keras.Model(inputs, inputs, name="functional"))


def input_type(model: Any) -> Any:
    """Return the tensor type that a model's input takes: that of its Input, or else Keras' float type."""
    inputs = getattr(model, "inputs", None)
    return tf.as_dtype(inputs[0].dtype if inputs else keras.config.floatx())
