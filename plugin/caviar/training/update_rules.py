"""The learning rate's schedules, and SGD with momentum, Adam and RMSprop, with hyperparameters that are tensors.

Keras' optimizers bake a float momentum into the trace (SGD refuses a variable), so changing it would trace anew. These
rules compute the same numbers by TensorFlow's fused kernels, one operation a weight.
"""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ..config import Decay, Optimizer

ADAM_BETA_2 = 0.999
RMSPROP_RHO = 0.9
EPSILON = 1e-7

SLOTS: dict[Optimizer, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("mean", "variance"),
    "rmsprop": ("variance", "momentum"),
}
"""The names of each rule's slots: variables of the weight's shape that start at 0."""


def decayed_learning_rate(decay: Decay, learning_rate: Any, *, decay_rate: Any, epochs_done: Any, epochs: int) -> Any:
    """Return the learning rate at a point of the training.

    It is α, α·(1 − decay_rate)^t, α / (1 + decay_rate·t) or α·(1 + cos(π·t / epochs)) / 2, in α's type. The schedule is
    a constant of the program; the others are tensors that broadcast, so that changing them needs no new trace.

    Args:
        decay: The schedule.
        learning_rate: The first step size α, above 0.
        decay_rate: How much the rate falls in an epoch, as TrainingConfig documents it.
        epochs_done: t, fractional within an epoch: (steps done) / (steps an epoch).
        epochs: Where cosine decay ends; the rate stays at 0 from there.

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


def corrected_learning_rate(optimizer: Optimizer, learning_rate: Any, *, momentum: Any, step: Any) -> Any:
    """Return the learning rate that `apply_update` takes: Adam's makes up for slots that began at 0.

    From α after decay, the momentum β and t, the steps done including this one, it is α·√(1 − 0.999^t) / (1 − β^t) for
    Adam, α for the others. Compute it in float64: in float32, 1 − β^t of a β near 1 and a small t has few digits left.
    """
    if optimizer != "adam":
        return learning_rate
    return learning_rate * (1.0 - ADAM_BETA_2**step) ** 0.5 / (1.0 - momentum**step)


def apply_update(
    optimizer: Optimizer, weight: Any, slots: Sequence[Any], gradient: Any, *, learning_rate: Any, momentum: Any
) -> None:
    """Update a weight and its slots in place, by one step.

    With g the gradient, α the learning rate, β the momentum, ε = 1e-7 and t the steps done including this one:

    - ``sgd``: v := β·v − α·g; w := w + v.
    - ``adam``: m := β·m + (1 − β)·g; s := 0.999·s + 0.001·g²; w := w − α·√(1 − 0.999^t) / (1 − β^t) · m / (√s + ε).
    - ``rmsprop``: s := 0.9·s + 0.1·g²; v := β·v + α·g / √(s + ε); w := w − v.

    Weight and slots are tf.Variables, the slots in the order of `SLOTS`; the gradient, the learning rate (from
    `corrected_learning_rate`) and the momentum are tensors of the weight's type.

    Source:
        Qian 1999 (momentum); Kingma and Ba, ICLR 2015 (Adam); Tieleman and Hinton 2012 (RMSprop). The forms are
        those of keras.optimizers, against which tests compare them step by step.
    """
    handles = [slot.handle for slot in slots]
    if optimizer == "sgd":
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=weight.handle, accum=handles[0], lr=learning_rate, grad=gradient, momentum=momentum
        )
    elif optimizer == "adam":
        beta_2 = tf.constant(ADAM_BETA_2, gradient.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=handles[0],
            v=handles[1],
            beta1_power=tf.zeros((), gradient.dtype),  # the learning rate comes corrected
            beta2_power=tf.zeros((), gradient.dtype),
            lr=learning_rate,
            beta1=momentum,
            beta2=beta_2,
            epsilon=tf.constant(EPSILON, gradient.dtype),
            grad=gradient,
        )
    else:
        tf.raw_ops.ResourceApplyRMSProp(
            var=weight.handle,
            ms=handles[0],
            mom=handles[1],
            lr=learning_rate,
            rho=tf.constant(RMSPROP_RHO, gradient.dtype),
            momentum=momentum,
            epsilon=tf.constant(EPSILON, gradient.dtype),
            grad=gradient,
        )
