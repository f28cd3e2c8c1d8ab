"""What an epoch of a fleet is told by the host, and what its program makes of that once, before the steps."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from ...program_key import ProgramKey
from .layers import VECTORS
from .updates import SQUARE_DECAYS, Coefficients


class EpochPlan(NamedTuple):
    """What one epoch does, as tensors made on the host. L lanes, S steps, B rows a batch, D layers, W units.

    What a program does not use has no elements.
    """

    counts: Any  # int32 (D + 1,): lanes that have each layer, then 0
    rows: Any  # int32 (S, L, B): the examples of each step
    row_keys: Any  # uint32 (S, L, B): dropout's random numbers
    learning_rates: Any  # (S, L): see Coefficients
    active: Any  # (S, L): 0 where a lane rests; only ragged
    row_mask: Any  # (L, B): 0 for the rows of padding; only ragged
    batch_sizes: Any  # (L,): rows that count
    n_steps: Any  # (L,): steps that count
    momentum: Any  # (L,)
    batch_norm_momentum: Any  # (L,): the moving statistics'
    dropout: Any  # (D, L): share dropped
    column_keys: Any  # uint32 (D, W): the units' numbers for dropout
    l2: Any  # (D + 1, L): factor for each layer's kernel; the last row is the heads'
    unit_mask: Any  # (D, L, 1, W): 1 for a lane's own units; only where the activation needs it
    validation_rows: Any  # int32 (): examples of one validation batch


def plan_signature(key: ProgramKey) -> EpochPlan:
    """Return the shapes and types of a program's plan."""
    depth, dtype = key.depth, key.dtype
    shapes: dict[str, tuple[list[int | None], Any]] = {
        "counts": ([depth + 1], tf.int32),
        "rows": ([None, None, None], tf.int32),
        "row_keys": ([None, None, None], tf.uint32),
        "learning_rates": ([None, None], dtype),
        "active": ([None, None], dtype),
        "row_mask": ([None, None], dtype),
        "batch_sizes": ([None], dtype),
        "n_steps": ([None], dtype),
        "momentum": ([None], dtype),
        "batch_norm_momentum": ([None], dtype),
        "dropout": ([depth, None], dtype),
        "column_keys": ([depth, None], tf.uint32),
        "l2": ([depth + 1, None], dtype),
        "unit_mask": ([depth, None, 1, None], dtype),
        "validation_rows": ([], tf.int32),
    }
    return EpochPlan(**{name: tf.TensorSpec(shape, kind, name=name) for name, (shape, kind) in shapes.items()})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerConstants:
    """One layer's part of the plan, cut to the lanes that have the layer. See LayerInputs."""

    inverse_batch: Any
    row_weights: Any
    row_mask: Any
    unit_mask: Any
    dropout: Any
    split: Any  # int32 (2,): lanes that go on to the next layer, and lanes that end here


class Constants:
    """What all steps of an epoch share, computed before the first: a step has few operations of its own.

    Attributes:
        counts: Lanes that have each layer, scalars, then 0.
        layers: What each layer takes.
        ends: Lanes that end at each layer, from the deepest to the first, int32 (D,).
        vector_sizes: Rows of each layer's part of the vectors, kind by kind, int32 (kinds · D,).
        moving_sizes: The same of the moving statistics, int32 (2 · D,).
        row_mask: (L, B, 1), or None where all rows count.
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
        self._moving_lanes = tf.tile(rows, [2])
        self._slope_scales = self._make_slope_scales()
        self._coefficients = [self._make_coefficients(number) for number in range(depth + 3)]
        self._moving_gains = self._make_moving_gains()
        self._l2_slopes = [self._make_l2_slopes(number) for number in range(depth + 1)] if key.l2 else []

    def slope_scale(self, step: Any) -> Any:
        """Return what the slopes of the logits are multiplied by in a step, (L, 1, 1): 1 / rows, for sgd times α."""
        return tf.gather(self._slope_scales, step) if self._key.optimizer == "sgd" else self._slope_scales

    def coefficients(self, number: int, step: Any) -> Coefficients:
        """Return the coefficients of the weights of this number in a step."""
        return Coefficients(
            **{
                name: tf.gather(value, step) if in_steps else value
                for name, (value, in_steps) in self._coefficients[number].items()
            }
        )

    def moving_gain(self, step: Any) -> Any:
        """Return 1 − momentum for each row of the moving statistics in a step, (rows, 1, 1); 0 where a lane rests."""
        return tf.gather(self._moving_gains, step) if self._key.ragged else self._moving_gains

    def l2_slope(self, number: int, step: Any) -> Any:
        """Return 2 · factor for each lane's kernel, (lanes, 1, 1), for sgd times α; None without L2."""
        if not self._l2_slopes:
            return None
        return tf.gather(self._l2_slopes[number], step) if self._key.optimizer == "sgd" else self._l2_slopes[number]

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

    def _make_slope_scales(self) -> Any:
        scales = self._inverse_batch
        if self._key.optimizer == "sgd":  # the few logits' slopes are scaled, and not every kernel's gradient
            scales = self._plan.learning_rates[:, :, None, None] * scales
        return scales

    def _make_coefficients(self, number: int) -> dict[str, tuple[Any, bool]]:
        """Return each coefficient, and whether it has a leading axis of steps."""
        key, plan = self._key, self._plan
        # In the network's type, as TensorFlow's kernels do: 1 − 0.999 is 1.3e-5 off in float32.
        square_gain = 1.0 - tf.constant(SQUARE_DECAYS[key.optimizer], key.dtype)
        momentum, gain = plan.momentum, 1.0 - plan.momentum
        rates = None if key.optimizer == "sgd" else self._spread(plan.learning_rates, number)
        if not key.ragged:
            return {
                "learning_rate": (rates, rates is not None),
                "momentum": (self._spread(momentum, number), False),
                "gain": (self._spread(gain, number), False),
                "square_gain": (square_gain, False),
                "active": (None, False),
            }
        active = plan.active
        return {
            "learning_rate": (rates, rates is not None),
            "momentum": (self._spread(tf.where(active > 0, momentum, 1.0), number), True),
            "gain": (self._spread(gain * active, number), True),
            "square_gain": (self._spread(square_gain * active, number), True),
            "active": (self._spread(active, number), True),
        }

    def _make_moving_gains(self) -> Any:
        gains = 1.0 - self._plan.batch_norm_momentum
        if self._key.ragged:
            gains = gains * self._plan.active
        return tf.gather(gains, self._moving_lanes, axis=-1)[..., None, None]

    def _make_l2_slopes(self, number: int) -> Any:
        slopes = 2.0 * self._plan.l2[number]
        if self._key.optimizer == "sgd":
            slopes = slopes * self._plan.learning_rates
        return self._spread(slopes, number)
