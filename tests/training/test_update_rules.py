from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caviar.config import Optimizer
from caviar.training.update_rules import SLOTS, apply_update, corrected_learning_rate

# Keras rounds Python's floats to float32 where it casts them, whatever the weights' type: 1 − 0.999 moves by 1e-5 of
# itself, and 1 − β of a β near 1 as much again. Numpy's it leaves whole.
KERAS: dict[Optimizer, Callable[[float, np.float64], Any]] = {
    "sgd": lambda rate, momentum: keras.optimizers.SGD(rate, momentum=momentum),
    "adam": lambda rate, momentum: keras.optimizers.Adam(rate, beta_1=momentum, beta_2=np.float64(0.999)),
    "rmsprop": lambda rate, momentum: keras.optimizers.RMSprop(rate, momentum=momentum),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@example(learning_rate=0.1, momentum=0.9937, seed=0)
@given(
    learning_rate=st.floats(1e-4, 1.0),
    momentum=st.one_of(st.just(0.0), st.floats(0.5, 0.999)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=8)
def test_rule_follows_keras_step_by_step(
    optimizer: Optimizer, learning_rate: float, momentum: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(3, 2))
    theirs = keras.Variable(start, dtype="float64")
    rule = KERAS[optimizer](learning_rate, np.float64(momentum))
    rule.build([theirs])
    ours = tf.Variable(start)
    slots = [tf.Variable(tf.zeros_like(ours)) for _ in SLOTS[optimizer]]
    for step in range(1, 7):
        gradient = rng.normal(size=(3, 2)) * 10.0 ** rng.uniform(-6, 2)
        rule.apply([tf.constant(gradient)], [theirs])
        apply_update(
            optimizer,
            ours,
            slots,
            tf.constant(gradient),
            # Keras holds its learning rate in float32.
            learning_rate=corrected(optimizer, float(np.float32(learning_rate)), momentum, step),
            momentum=tf.constant(momentum, tf.float64),
        )
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, atol=1e-12 * learning_rate * step)


def corrected(optimizer: Optimizer, learning_rate: float, momentum: float, step: int) -> Any:
    rate = tf.constant(learning_rate, tf.float64)
    return corrected_learning_rate(optimizer, rate, momentum=momentum, step=step)


def documented(optimizer: Optimizer, gradients: list[Any], *, rate: float, beta: float) -> Any:
    w, first, second = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, start=1):
        if optimizer == "sgd":
            first = beta * first - rate * g
            w = w + first
        elif optimizer == "adam":
            first = beta * first + (1 - beta) * g
            second = 0.999 * second + 0.001 * g**2
            w = w - rate * np.sqrt(1 - 0.999**t) / (1 - beta**t) * first / (np.sqrt(second) + 1e-7)
        else:
            second = 0.9 * second + 0.1 * g**2
            first = beta * first + rate * g / np.sqrt(second + 1e-7)
            w = w - first
    return w


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_rule_is_the_documented_formula(optimizer: Optimizer, beta: float) -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=4) for _ in range(10)]
    weight = tf.Variable(np.zeros(4))
    slots = [tf.Variable(np.zeros(4)) for _ in SLOTS[optimizer]]
    momentum = tf.constant(beta, tf.float64)
    for t, gradient in enumerate(gradients, start=1):
        rate = corrected(optimizer, 0.1, beta, t)
        apply_update(optimizer, weight, slots, tf.constant(gradient), learning_rate=rate, momentum=momentum)
    np.testing.assert_allclose(weight.numpy(), documented(optimizer, gradients, rate=0.1, beta=beta), rtol=1e-11)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_infinite_gradient_gives_a_value_not_an_error(optimizer: Optimizer) -> None:
    weight = tf.Variable([1.0])
    slots = [tf.Variable([0.0]) for _ in SLOTS[optimizer]]
    one = tf.constant(1.0)
    apply_update(optimizer, weight, slots, tf.constant([np.inf], tf.float32), learning_rate=one, momentum=0.9 * one)
    assert not np.isfinite(weight.numpy()).any()
