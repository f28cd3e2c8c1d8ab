"""The softmax head: networks train on logits, which is stable, and are exported with probabilities."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def with_probabilities(model: Any) -> Any:
    """Return the exported form of a network: the same layers and weights, with a softmax on top.

    The result shares its weights with ``model``. It adds stock Keras layers only, so what can be saved to a ``.keras``
    file and loaded with plain Keras can be so with its softmax, too.

    Args:
        model: A functional or sequential network with one output, logits or probabilities.

    Returns:
        A keras.Model whose outputs are at least 0 and sum to 1. ``model`` itself, where it ends in a softmax already.

    Raises:
        ValueError: If the network is subclassed: Keras knows no output to build on. End it in a softmax yourself.

    Shapes:
        Output (n, n_classes), of the network's float type.
    """
    if not _is_graph(model):
        raise ValueError(
            f"with_probabilities needs a functional or sequential keras.Model, but got the subclassed "
            f"{type(model).__name__}. Return probabilities from its call(), or use keras.Model(inputs, outputs)."
        )
    if _ends_in(model) == "softmax":
        return model
    # A float16 softmax cannot hold small probabilities: the head is float32 at least, whatever the network's policy.
    policy = "float64" if model.outputs[0].dtype == "float64" else "float32"
    softmax = keras.layers.Activation("softmax", dtype=policy, name="probabilities")
    return keras.Model(model.inputs[0], softmax(model.outputs[0]), name=f"{model.name}_probabilities")


def gives_probabilities(model: Any, sample: npt.NDArray[np.generic]) -> bool:
    """Say whether a network's outputs are probabilities, so that its loss is not taken from logits.

    A last layer that names its activation answers the question; else the outputs for ``sample`` do.

    Args:
        model: A built keras.Model with one output.
        sample: A few examples as the network takes them, at least 1.

    Returns:
        True where the network ends in a softmax, or every row of outputs for ``sample`` is at least 0 and sums to 1
        within 1e-3.

    Shapes:
        sample (n, *feature_shape).
    """
    end = _ends_in(model)
    if end != "unknown":
        return end == "softmax"
    outputs = np.asarray(keras.ops.convert_to_numpy(model(sample, training=False)), np.float64)
    return bool(np.all(outputs >= 0) and np.all(np.abs(outputs.sum(axis=-1) - 1) < 1e-3))


def _is_graph(model: Any) -> bool:
    return bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def _ends_in(model: Any) -> str:
    """Return ``softmax``, ``linear`` or ``unknown`` from the last layer of a functional or sequential network."""
    if not _is_graph(model):
        return "unknown"
    last = model.layers[-1]
    if type(last) is keras.layers.Softmax:
        return "softmax"
    if type(last) in (keras.layers.Dense, keras.layers.Activation):
        if last.activation is keras.activations.softmax:
            return "softmax"
        if last.activation is keras.activations.linear:
            return "linear"
    return "unknown"
