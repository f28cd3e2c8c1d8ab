"""The softmax head: networks train on logits, which is stable, and are exported and saved with probabilities."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from ..errors import SpecError

Output = Literal["logits", "probabilities"]
"""What a network outputs for each class."""

_Rows = npt.NDArray[np.float64]

# How many times a network's weights get random signs: enough that its logits will not all be positive each time.
_DRAWS = 8


def with_probabilities(
    model: Any, *, output: Output | None = None, feature_shape: tuple[int, ...] | None = None
) -> Any:
    """Return the exported form of a network: the same layers and weights, with a softmax on top.

    The result shares its weights with ``model``. It only adds stock Keras layers, so a network that plain Keras can
    save and load can be saved and loaded with its softmax too.

    Args:
        model: A built network with one output.
        output: What it outputs; None to find out on random inputs.
        feature_shape: Shape of one example. Only a subclassed network needs it: Keras does not know its input.

    Returns:
        A keras.Model whose outputs are at least 0 and sum to 1: ``model`` itself, if it gives probabilities.

    Raises:
        ValueError: If the network is subclassed and you do not give its feature_shape.
        SpecError: If it gives neither logits nor probabilities.

    Shapes:
        Output (n, n_classes), of the network's float type.
    """
    if getattr(model, "inputs", None) and getattr(model, "outputs", None):
        inputs, outputs = model.inputs[0], model.outputs[0]
        feature_shape = tuple(inputs.shape[1:])
    elif feature_shape is None:
        raise ValueError(
            f"with_probabilities needs the feature_shape of the subclassed {type(model).__name__}: Keras does not know "
            "its input."
        )
    else:
        inputs = keras.Input(feature_shape)
        outputs = model(inputs, training=False)
    if output is None:
        random = np.abs(np.random.default_rng(0).normal(size=(1, *feature_shape)))
        output = find_output(model, random.astype(inputs.dtype))
    if output == "probabilities":
        return model
    # A float16 softmax cannot hold small probabilities: the head is float32 at least, whatever the network's policy.
    policy = "float64" if outputs.dtype == "float64" else "float32"
    taken = any(layer.name == "probabilities" for layer in model.layers)
    softmax = keras.layers.Activation("softmax", dtype=policy, name=None if taken else "probabilities")
    return keras.Model(inputs, softmax(outputs), name=f"{model.name}_probabilities")


def find_output(model: Any, sample: npt.NDArray[np.generic]) -> Output:
    """Find out whether a network outputs logits or probabilities, so that its loss is computed to match.

    This runs the network, on the sample and on random inputs, instead of looking at its last layer: a softmax may be
    in a layer inside it, in an operation, or before a Flatten. If a doubt remains, as for a network that begins at 0,
    random signs of its weights settle it: a softmax gives probabilities whatever the weights are.

    Args:
        model: A built keras.Model with one output of shape (n, n_classes).
        sample: A few examples as the network takes them, at least 1.

    Returns:
        ``probabilities`` if every row is at least 0 and sums to 1 within 1e-3; else ``logits``.

    Raises:
        SpecError: If its outputs are never negative and do not sum to 1, as those of a sigmoid or a relu.

    Shapes:
        sample (n, *feature_shape).
    """
    inputs = np.concatenate([sample, _random_like(sample)])
    rows = _outputs(model, inputs)
    if not len(rows) or (rows < 0).any():
        return "logits"
    is_steady = bool(np.ptp(rows, axis=0).max() < 1e-6)
    if _sum_to_one(rows):
        return "probabilities" if not is_steady or _whatever_the_weights(model, inputs, _sum_to_one) else "logits"
    if _whatever_the_weights(model, inputs, lambda rows: bool((rows >= 0).all())) and not is_steady:
        raise SpecError(
            "The network gives neither logits nor probabilities: its outputs are never negative, as those of a sigmoid "
            f"or a relu, and for one example they sum to {rows[0].sum():.4g} instead of 1. End it in Dense(n_classes) "
            'or a softmax; or set objective.output = "logits" (in KerasObjective: output="logits").'
        )
    return "logits"


@contextlib.contextmanager
def quiet_saving() -> Iterator[None]:
    """Hold back a warning about Keras itself: its saving calls numpy's ``__array__`` as numpy 1 did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def check_probabilities(model: Any, sample: npt.NDArray[np.generic]) -> None:
    """Raise SpecError if a network that should output probabilities does not, for a sample as `find_output` takes."""
    rows = _outputs(model, sample)
    if len(rows) and not ((rows >= 0).all() and _sum_to_one(rows)):
        raise SpecError(
            f"The network's output is set to probabilities, but for one example it sums to {rows[0].sum():.4g} and its "
            f'smallest value is {rows[0].min():.4g}. End the network in a softmax, or set output to "logits".'
        )


def _outputs(model: Any, inputs: npt.NDArray[np.generic]) -> _Rows:
    """Return a network's outputs, without rows that are not finite."""
    rows = np.asarray(keras.ops.convert_to_numpy(model(inputs, training=False)), np.float64)
    return rows[np.isfinite(rows).all(axis=1)]


def _sum_to_one(rows: _Rows) -> bool:
    return bool(np.all(np.abs(rows.sum(axis=1) - 1) < 1e-3))


def _random_like(sample: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return 8 random examples: whole numbers in the sample's range if it only has these, as indices are."""
    generator, shape = np.random.default_rng(0), (8, *sample.shape[1:])
    values = np.asarray(sample, np.float64)
    if np.isfinite(values).all() and (values == np.rint(values)).all():
        return generator.integers(int(values.min()), int(values.max()) + 1, shape).astype(sample.dtype)
    return generator.normal(size=shape).astype(sample.dtype)


def _whatever_the_weights(model: Any, inputs: npt.NDArray[np.generic], holds: Callable[[_Rows], bool]) -> bool:
    """Return whether a network's outputs meet a condition under random signs of its weights, which are restored."""
    generator, weights = np.random.default_rng(0), model.trainable_variables
    values = [weight.numpy() for weight in weights]
    try:
        for _ in range(_DRAWS):
            for weight, value in zip(weights, values, strict=True):
                weight.assign(value * generator.choice(np.array([-1, 1], value.dtype), value.shape))
            if not holds(_outputs(model, inputs)):
                return False
    finally:
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
    return True
