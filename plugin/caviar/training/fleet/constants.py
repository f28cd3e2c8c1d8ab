"""What all steps of an epoch share: a program computes it from the plan once, so that a step has few operations."""

from typing import Any, NamedTuple

import tensorflow as tf

from ...config import Optimizer
from ...program_key import ProgramKey
from ..update_rules import ADAM_BETA_2, RMSPROP_RHO
from .layers import VECTORS, LayerConstants
from .plan import EpochPlan

_SQUARE_DECAYS: dict[Optimizer, float] = {"sgd": 0.0, "adam": ADAM_BETA_2, "rmsprop": RMSPROP_RHO}
"""How much the mean of squares keeps of itself in a step."""


class Coefficients(NamedTuple):
    """One weight's coefficients, by lane: tensors that broadcast with it. A lane rests once its own steps are done."""

    learning_rate: Any  # α after decay, for Adam corrected for its slots' first steps; 0 in a lane that rests
    momentum: Any  # β; 1 in a lane that rests, so that its slots stay
    gain: Any  # 1 − β; 0 in a lane that rests
    square_gain: Any  # a new square's weight in the mean of squares: 1 − _SQUARE_DECAYS; 0 in a lane that rests
    active: Any  # 1, and 0 in a lane that rests; None where none rests


class PerStep(NamedTuple):
    """A tensor of an epoch; ``varies`` says whether it has a leading axis of steps."""

    values: Any
    varies: bool

    def at(self, step: Any) -> Any:
        """Return its value in a step."""
        return tf.gather(self.values, step) if self.varies else self.values


class Constants:
    """What the steps share. The weights are numbered as in `lanes.Layout`: kernels, the heads', vectors, biases.

    Attributes:
        counts: Lanes that have each layer, scalars, then 0.
        layers: What each layer takes.
        ends: Lanes that end at each layer, from the deepest to the first, int32 (D,).
        vector_sizes: Rows of each layer's part of the vectors, kind by kind, int32 (kinds · D,).
        moving_sizes: The same of the moving statistics, int32 (2 · D,).
        row_mask: (L, B, 1), or None where all rows count.
        slope_scale: What multiplies the logits' slopes, (L, 1, 1): 1 / rows, for sgd times α.
        moving_gain: 1 − momentum for each row of the moving statistics, (rows, 1, 1); 0 where a lane rests.
        l2_slopes: For each kernel 2 · factor by lane, (lanes, 1, 1), for sgd times α; empty without L2.
    """

    def __init__(self, key: ProgramKey, plan: EpochPlan) -> None:
        self._key = key
        self._plan = plan
        depth = key.depth
        self.counts = tf.unstack(plan.counts, num=depth + 1)
        self.ends = tf.reverse(plan.counts[:-1] - plan.counts[1:], axis=[0])
        self.vector_sizes = tf.tile(plan.counts[:depth], [len(VECTORS[key.batch_norm])])
        self.moving_sizes = tf.tile(plan.counts[:depth], [2])
        self.row_mask = plan.row_mask[:, :, None] if key.ragged else None
        self._inverse_batch = (1.0 / plan.batch_sizes)[:, None, None]
        self.layers = [self._layer(layer) for layer in range(depth)]
        rows = tf.concat([tf.range(count) for count in self.counts[:depth]], axis=0)
        self._vector_lanes = tf.tile(rows, [len(VECTORS[key.batch_norm])])
        self._coefficients = [self._make_coefficients(number) for number in range(depth + 3)]
        # For sgd the slopes of the few logits carry the learning rate, so that not every gradient has to.
        scales, is_sgd = self._inverse_batch, key.optimizer == "sgd"
        self.slope_scale = PerStep(plan.learning_rates[:, :, None, None] * scales if is_sgd else scales, is_sgd)
        gains = 1.0 - plan.batch_norm_momentum
        gains = gains * plan.active if key.ragged else gains
        gains = tf.gather(gains, tf.tile(rows, [2]), axis=-1)[..., None, None]
        self.moving_gain = PerStep(gains, key.ragged)
        self.l2_slopes = []
        for number in range(depth + 1) if key.l2 else ():
            slopes = 2.0 * plan.l2[number]
            slopes = slopes * plan.learning_rates if is_sgd else slopes
            self.l2_slopes.append(PerStep(self._spread(slopes, number), is_sgd))

    def coefficients(self, number: int, step: Any) -> Coefficients:
        """Return the coefficients of the weights of this number in a step."""
        return Coefficients(*(None if part is None else part.at(step) for part in self._coefficients[number]))

    def _layer(self, layer: int) -> LayerConstants:
        key, plan, lanes = self._key, self._plan, self.counts[layer]
        inverse_batch = self._inverse_batch[:lanes]
        return LayerConstants(
            inverse_batch=inverse_batch,
            row_weights=plan.row_mask[:lanes, None, :] * inverse_batch if key.ragged else None,
            row_mask=plan.row_mask[:lanes, :, None] if key.ragged else None,
            unit_mask=plan.unit_mask[layer, :lanes] if key.masks_units else None,
            dropout=plan.dropout[layer, :lanes, None] if key.dropout else None,
            split=tf.stack([self.counts[layer + 1], lanes - self.counts[layer + 1]]),
        )

    def _spread(self, values: Any, number: int) -> Any:
        """Return values of each lane, (…, L), spread over the axes of the weights of this number, (…, rows, 1, 1)."""
        if number < self._key.depth:
            values = values[..., : self.counts[number]]
        elif number == self._key.depth + 1:
            values = tf.gather(values, self._vector_lanes, axis=-1)
        return values[..., None, None]

    def _make_coefficients(self, number: int) -> Coefficients:
        """Return the coefficients of the weights of this number, as PerStep."""
        key, plan = self._key, self._plan
        # In the network's type, as TensorFlow's kernels do: 1 − 0.999 is 1.3e-5 off in float32.
        square_gain = 1.0 - tf.constant(_SQUARE_DECAYS[key.optimizer], key.dtype)
        momentum, gain, rates = plan.momentum, 1.0 - plan.momentum, plan.learning_rates
        learning_rate = None if key.optimizer == "sgd" else PerStep(self._spread(rates, number), True)
        active = None
        if key.ragged:
            active = PerStep(self._spread(plan.active, number), True)
            momentum = tf.where(plan.active > 0, momentum, 1.0)
            gain = gain * plan.active
            square_gain = self._spread(square_gain * plan.active, number)
        return Coefficients(
            learning_rate=learning_rate,
            momentum=PerStep(self._spread(momentum, number), key.ragged),
            gain=PerStep(self._spread(gain, number), key.ragged),
            square_gain=PerStep(square_gain, key.ragged),
            active=active,
        )
