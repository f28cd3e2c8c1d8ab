from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.training.batch_norm import can_normalize, normalizer


def make_layer(units: int, *, seed: int = 0, dtype: str = "float64", **options: Any) -> Any:
    rng = np.random.default_rng(seed)
    layer = keras.layers.BatchNormalization(dtype=dtype, **options)
    keras.Sequential([keras.Input((units,), dtype=dtype), layer])
    layer.set_weights([rng.normal(size=weight.shape) ** 2 for weight in layer.get_weights()])
    return layer


def differentiate(layer: Any, function: Callable[[Any], Any], x: Any, pull: Any) -> list[Any]:
    """Return outputs, gradients and moving statistics of one pass in a graph."""

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def run() -> Any:
        values = [layer.gamma.value, layer.beta.value]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, *values])
            outputs = function(x)
            loss = tf.reduce_sum(outputs * pull)
        return outputs, tape.gradient(loss, [x, *values])

    outputs, gradients = run()
    return [np.asarray(value) for value in (outputs, *gradients, layer.moving_mean.value, layer.moving_variance.value)]


@given(
    n=st.integers(1, 12),
    units=st.integers(1, 5),
    momentum=st.floats(0, 0.99),
    log_spread=st.integers(-3, 3),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=6)
def test_outputs_gradients_and_statistics_are_those_of_keras(
    n: int, units: int, momentum: float, log_spread: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = tf.constant(3.0 + 10.0**log_spread * rng.normal(size=(n, units)))
    pull = tf.constant(rng.normal(size=(n, units)))
    theirs, ours = (make_layer(units, seed=seed, momentum=momentum) for _ in range(2))
    expected = differentiate(theirs, lambda features: theirs(features, training=True), x, pull)
    for value, reference in zip(differentiate(ours, normalizer(ours), x, pull), expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"center": False}, {"scale": False}, {"renorm": True}, {"trainable": False}, {"dtype": "mixed_bfloat16"}],
)
def test_other_kinds_of_batch_norm_stay_keras_own(options: dict[str, Any]) -> None:
    layer = keras.layers.BatchNormalization(**options)
    keras.Sequential([keras.Input((3,)), layer])
    assert not can_normalize(layer)


def test_images_and_subclassed_layers_stay_keras_own() -> None:
    class Own(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
        pass

    for shape, layer in (((4, 4, 2), keras.layers.BatchNormalization()), ((3,), Own())):
        keras.Sequential([keras.Input(shape), layer])
        assert not can_normalize(layer)


def test_features_with_a_mask_are_left_to_keras() -> None:
    layer = make_layer(2, dtype="float32")
    features = tf.constant([[1.0, 2.0], [3.0, 4.0], [50.0, 60.0]])
    features._keras_mask = tf.constant([True, True, False])
    outputs = normalizer(layer)(features)
    reference = make_layer(2, dtype="float32")
    np.testing.assert_allclose(outputs, reference(features, training=True), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean.numpy(), reference.moving_mean.numpy(), rtol=1e-6)
