from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from caviar.config import Decay
from caviar.training.update_rules import decayed_learning_rate

STEPS, EPOCHS = 7, 5

SCHEDULES: dict[Decay, Callable[[float, float], Any]] = {
    "none": lambda rate, _: lambda step: rate,
    "exponential": lambda rate, fall: keras.optimizers.schedules.ExponentialDecay(rate, STEPS, 1 - fall),
    "inverse_time": lambda rate, fall: keras.optimizers.schedules.InverseTimeDecay(rate, STEPS, fall),
    "cosine": lambda rate, _: keras.optimizers.schedules.CosineDecay(rate, STEPS * EPOCHS),
}


def ours(decay: Decay, rate: float, fall: float, epochs_done: Any) -> Any:
    return decayed_learning_rate(
        decay,
        tf.constant(rate, tf.float64),
        decay_rate=tf.constant(fall, tf.float64),
        epochs_done=tf.constant(epochs_done, tf.float64),
        epochs=EPOCHS,
    ).numpy()


@pytest.mark.parametrize("decay", ["none", "exponential", "inverse_time", "cosine"])
@pytest.mark.parametrize("fall", [0.0, 0.05, 0.7])
def test_schedule_follows_keras_at_every_step(decay: Decay, fall: float) -> None:
    schedule = SCHEDULES[decay](0.3, fall)
    steps = np.arange(STEPS * (EPOCHS + 1))
    expected = [float(schedule(int(step))) for step in steps]
    np.testing.assert_allclose(ours(decay, 0.3, fall, steps / STEPS), expected, rtol=1e-5, atol=1e-7)


def test_exponential_decay_of_0_05_is_the_course_s_0_95_to_the_epoch() -> None:
    np.testing.assert_allclose(ours("exponential", 0.2, 0.05, [0, 1, 10]), 0.2 * 0.95 ** np.array([0, 1, 10]))


def test_cosine_decay_stays_at_0_after_its_last_epoch() -> None:
    np.testing.assert_allclose(ours("cosine", 0.2, 0.0, [EPOCHS, EPOCHS + 3]), 0, atol=1e-15)
