"""The learning rate's schedules."""

import math
from typing import Any

import tensorflow as tf

from ..config import Decay


def decayed_learning_rate(decay: Decay, learning_rate: Any, *, decay_rate: Any, epochs_done: Any, epochs: int) -> Any:
    """Return the learning rate at a point of the training.

    Args:
        decay: The schedule: a constant of the program.
        learning_rate: The first step size α, above 0: a tensor, so that changing it needs no new trace.
        decay_rate: The fall an epoch, as TrainingConfig documents it: a tensor.
        epochs_done: t, fractional within an epoch: (steps done) / (steps an epoch).
        epochs: Where cosine decay ends; it stays at 0 from there.

    Returns:
        α, α·(1 − decay_rate)^t, α / (1 + decay_rate·t) or α·(1 + cos(π·t / epochs)) / 2, in α's type.

    Shapes:
        learning_rate and decay_rate (...), epochs_done (...), broadcast together.

    Source:
        The course's learning-rate decay; Loshchilov and Hutter, ICLR 2017 (cosine). keras.optimizers.schedules has the
        same as ExponentialDecay, InverseTimeDecay and CosineDecay.
    """
    if decay == "exponential":
        return learning_rate * tf.pow(1.0 - decay_rate, epochs_done)
    if decay == "inverse_time":
        return learning_rate / (1.0 + decay_rate * epochs_done)
    if decay == "cosine":
        progress = tf.minimum(epochs_done / epochs, tf.ones((), epochs_done.dtype))
        return learning_rate * 0.5 * (1.0 + tf.cos(math.pi * progress))
    return learning_rate * tf.ones_like(epochs_done)
