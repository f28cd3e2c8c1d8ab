"""Running a user's Keras model inside the compiled epoch, with its dropout rates and L2 factors as variables."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from .batch_norm import can_normalize, normalizer
from .dropout import DropoutSite, Substitutes


def find_dropouts(model: Any) -> list[DropoutSite]:
    """Return the Dropout layers that can be given a rate that changes, in the model's order.

    Those are the plain ones of functional and sequential models and of such models within them. A subclassed model
    keeps what it has, since only its own code knows where its layers stand; so do Dropout layers with a noise_shape or
    with axes of unknown length.
    """
    sites = []
    for layer in _plain_layers(model):
        if type(layer) is keras.layers.Dropout and layer.noise_shape is None:
            shape = layer.output.shape[1:]
            if None not in shape:
                sites.append(DropoutSite(layer=layer, n_units=math.prod(shape)))
    return sites


def find_normalizers(model: Any) -> Substitutes:
    """Return the functions that run in the place of a model's batch normalisations, where they can be replaced."""
    return {id(layer): normalizer(layer) for layer in _plain_layers(model) if can_normalize(layer)}


def run_network(model: Any, features: Any, *, substitutes: Substitutes) -> Any:
    """Return a model's outputs in training, with other functions in the place of some layers.

    Args:
        model: A built keras.Model with one input and one output.
        features: A batch, as the model's input takes it.
        substitutes: Called with a layer's input instead of the layer. A layer used twice in a step is substituted by
            the same function twice.
    """
    if not substitutes:
        return model(features, training=True)
    if type(model) is keras.Sequential:
        for layer in model.layers:
            features = _in_place_of(layer, substitutes)(features)
        return features
    # Private, but the only way to walk the layers without copying them: clone_model takes 40 ms a trial, and would
    # leave a second node on each of the user's layers. Keras' own Functional.call is this line.
    outputs = model._run_through_graph([features], operation_fn=lambda layer: _in_place_of(layer, substitutes))
    return outputs[0] if isinstance(outputs, list) else outputs


def find_kernels(trainable: Sequence[Any]) -> dict[int, float]:
    """Return which weights the hyperparameter l2 penalises, and by which factor at first.

    Args:
        trainable: The model's trainable variables.

    Returns:
        Factors by the weight's place in ``trainable``: of the weights that carry a keras.regularizers.L2; in a model
        with none, of every weight named ``kernel``, with factor 0.
    """
    penalized = {
        index: float(weight.regularizer.l2)
        for index, weight in enumerate(trainable)
        if type(weight.regularizer) is keras.regularizers.L2
    }
    return penalized or {index: 0.0 for index, weight in enumerate(trainable) if weight.name == "kernel"}


def other_penalties(model: Any, kernels: Sequence[Any]) -> list[Any]:
    """Return the losses that a model adds of its own in the pass just made, but for the L2 of these kernels."""
    with _without_regularizers(kernels):
        return list(model.losses)


@contextlib.contextmanager
def _without_regularizers(variables: Sequence[Any]) -> Iterator[None]:
    regularizers = [variable.regularizer for variable in variables]
    try:
        for variable in variables:
            variable.regularizer = None
        yield
    finally:
        for variable, regularizer in zip(variables, regularizers, strict=True):
            variable.regularizer = regularizer


def _in_place_of(layer: Any, substitutes: Substitutes) -> Callable[..., Any]:
    if id(layer) in substitutes:
        substitute = substitutes[id(layer)]
        # Keras sends a mask along with the tensor, as an attribute; dropout passes it on.
        return lambda features, **_: _with_mask_of(features, substitute(features))
    if any(id(inner) in substitutes for inner in _plain_layers(layer)):
        return lambda features, **_: run_network(layer, features, substitutes=substitutes)
    if isinstance(layer, keras.layers.Layer):
        return lambda *args, **kwargs: layer(*args, **{**kwargs, "training": True})
    return layer  # type: ignore[no-any-return]  # a keras.ops operation in the graph, callable as it is


def _with_mask_of(before: Any, after: Any) -> Any:
    mask = getattr(before, "_keras_mask", None)
    if mask is not None:
        after._keras_mask = mask
    return after


def _plain_layers(model: Any) -> Iterator[Any]:
    """Yield the layers of a functional or sequential model, those of such models within it included."""
    for layer in model.layers if _is_stock(model) else ():
        if _is_stock(layer):
            yield from _plain_layers(layer)
        else:
            yield layer


def _is_stock(model: Any) -> bool:
    """Say whether a model's call runs its graph of layers and nothing else, as in Keras' own classes it does."""
    kind = type(model)
    return kind is keras.Sequential or (kind.__name__ == "Functional" and kind.__module__.startswith("keras."))


def input_type(model: Any) -> Any:
    """Return the tensor type that a model's input takes: that of its Input, or else Keras' float type."""
    inputs = getattr(model, "inputs", None)
    return tf.as_dtype(inputs[0].dtype if inputs else keras.config.floatx())
