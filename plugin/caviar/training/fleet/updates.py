"""The update rules for all lanes at once: those of ``update_rules``, with coefficients that differ by lane."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from ...config import Optimizer
from ..update_rules import ADAM_BETA_2, EPSILON, RMSPROP_RHO

SQUARE_DECAYS: dict[Optimizer, float] = {"sgd": 0.0, "adam": ADAM_BETA_2, "rmsprop": RMSPROP_RHO}
"""How much the mean of squares keeps of itself in a step."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Coefficients:
    """One weight's coefficients, by lane: tensors that broadcast with it. A lane rests once its own steps are done."""

    learning_rate: Any  # α after decay, for Adam corrected for its slots' first steps; 0 in a lane that rests
    momentum: Any  # β; 1 in a lane that rests, so that its slots stay
    gain: Any  # 1 − β; 0 in a lane that rests
    square_gain: Any  # a new square's weight in the mean of squares: 1 − SQUARE_DECAYS; 0 in a lane that rests
    active: Any  # 1, and 0 in a lane that rests; None where none rests


def _sgd(weight: Any, slots: Sequence[Any], gradient: Any, by: Coefficients) -> tuple[Any, list[Any]]:
    velocity = by.momentum * slots[0] - gradient
    return weight + _if_active(velocity, by), [velocity]


def _adam(weight: Any, slots: Sequence[Any], gradient: Any, by: Coefficients) -> tuple[Any, list[Any]]:
    mean = slots[0] + (gradient - slots[0]) * by.gain
    variance = slots[1] + (gradient * gradient - slots[1]) * by.square_gain
    return weight - mean * by.learning_rate / (tf.sqrt(variance) + EPSILON), [mean, variance]


def _rmsprop(weight: Any, slots: Sequence[Any], gradient: Any, by: Coefficients) -> tuple[Any, list[Any]]:
    variance = slots[0] + (gradient * gradient - slots[0]) * by.square_gain
    momentum = by.momentum * slots[1] + by.learning_rate * gradient * tf.math.rsqrt(variance + EPSILON)
    return weight - _if_active(momentum, by), [variance, momentum]


def _if_active(change: Any, by: Coefficients) -> Any:
    return change if by.active is None else change * by.active


UPDATES: dict[Optimizer, Callable[[Any, Sequence[Any], Any, Coefficients], tuple[Any, list[Any]]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "rmsprop": _rmsprop,
}
"""Weight, slots, gradient and coefficients → the new weight and slots. The formulas are `update_rules.apply_update`'s.

For ``sgd`` the gradient is already multiplied by the learning rate: the loss' few logits were, before propagation.
"""
