"""The course's formulas, on random inputs, in the layers that the networks are made of."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caviar.config import NetworkConfig
from caviar.networks import build_network
from caviar.training.epoch import example_losses

VALUES = st.floats(-50, 50, width=32)
BATCHES = hnp.arrays(np.float32, st.tuples(st.integers(4, 24), st.integers(1, 6)), elements=VALUES)
LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.integers(2, 8)), elements=st.floats(-1000, 1000, width=32)
)
EPSILON = 1e-3
RANDOM = settings(deadline=None, max_examples=30)


@given(BATCHES)
@RANDOM
def test_batch_norm_normalises_to_mean_0_and_variance_1(z: Any) -> None:
    normalised = np.asarray(keras.layers.BatchNormalization()(z, training=True), np.float64)
    variance = z.astype(np.float64).var(axis=0)
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=2e-3)
    # Exactly σ² / (σ² + ε): 1, but for the ε that keeps the division finite.
    np.testing.assert_allclose(normalised.var(axis=0), variance / (variance + EPSILON), atol=2e-3)


@given(BATCHES)
@RANDOM
def test_gamma_of_the_deviation_and_beta_of_the_mean_give_the_identity(z: Any) -> None:
    layer = keras.layers.BatchNormalization()
    layer.build(z.shape)
    layer.gamma.assign(np.sqrt(z.astype(np.float64).var(axis=0) + EPSILON))
    layer.beta.assign(z.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(np.asarray(layer(z, training=True)), z, atol=2e-3)


@given(hnp.arrays(np.float32, (12, 3), elements=st.floats(-3, 3, width=32)), hnp.arrays(np.float32, 4, elements=VALUES))
@RANDOM
def test_bias_before_batch_norm_changes_nothing(features: Any, bias: Any) -> None:
    config = NetworkConfig(depth=1, units=4, batch_norm="before_activation")
    model = build_network(config, feature_shape=(3,), n_classes=2, normalization=None, seed=1)
    hidden, batch_norm = model.get_layer("hidden_1"), model.get_layer("batch_norm_1")
    z = np.asarray(hidden(features))
    without = np.asarray(batch_norm(z, training=True))
    with_bias = np.asarray(batch_norm(z + bias, training=True))
    np.testing.assert_allclose(with_bias, without, atol=5e-3)


@given(LOGITS)
@RANDOM
def test_softmax_sums_to_1(logits: Any) -> None:
    probabilities = np.asarray(keras.ops.softmax(logits))
    assert np.all(probabilities >= 0)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


@given(LOGITS, st.floats(-1000, 1000, width=32))
@RANDOM
def test_softmax_is_shift_invariant(logits: Any, shift: Any) -> None:
    # float32 holds logits near 2000 to 1.2e-4, so their softmax to about that.
    np.testing.assert_allclose(
        np.asarray(keras.ops.softmax(logits + shift)), np.asarray(keras.ops.softmax(logits)), atol=3e-4
    )


@given(LOGITS, st.data())
@RANDOM
def test_loss_and_gradient_are_finite_and_right_at_logits_of_1000(logits: Any, data: Any) -> None:
    n, n_classes = logits.shape
    labels = data.draw(hnp.arrays(np.int32, n, elements=st.integers(0, n_classes - 1)))
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        losses = example_losses(x, tf.constant(labels), from_logits=True)
    gradient = tape.gradient(losses, x).numpy()
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1, keepdims=True)
    log_sum = peak + np.log(np.exp(exact - peak).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(losses.numpy(), log_sum[:, 0] - exact[np.arange(n), labels], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient, np.exp(exact - log_sum) - np.eye(n_classes)[labels], atol=1e-5)


def test_extreme_logits_give_the_loss_that_the_formula_gives() -> None:
    logits = tf.constant([[1000.0, -1000.0], [1000.0, -1000.0]])
    losses = example_losses(logits, tf.constant([0, 1]), from_logits=True).numpy()
    np.testing.assert_array_equal(losses, [0, 2000])
