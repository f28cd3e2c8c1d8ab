"""What an epoch of a fleet is told by the host, and what its program makes of that once, before the steps."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from ...config import Activation, BatchNorm, Optimizer
from .layers import NOT_ZERO_AT_ZERO, VECTORS
from .updates import SQUARE_DECAYS, Coefficients


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramKey:
    """What is constant in a program: lanes that share it are equal in this.

    Attributes:
        depth: Hidden layers of the deepest lane.
        activation: Of all hidden layers.
        batch_norm: Placement.
        optimizer: Update rule.
        ragged: Whether the lanes' batch sizes differ: smaller batches are padded, and lanes with fewer steps rest.
        dropout: Whether any lane drops units.
        l2: Whether any lane's kernels are penalised.
        dtype: The float type.
    """

    depth: int
    activation: Activation
    batch_norm: BatchNorm
    optimizer: Optimizer
    ragged: bool
    dropout: bool
    l2: bool
    dtype: str

    @property
    def masks_units(self) -> bool:
        """Whether padding has to be set to 0 again behind the activation."""
        return self.activation in NOT_ZERO_AT_ZERO and self.batch_norm != "after_activation"


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


class Constants:
    """What all steps of an epoch share, computed before the first.

    Attributes:
        counts: Lanes that have each layer, scalars, then 0.
        layers: What each layer takes.
        vector_sizes: Rows of each layer's part of the vectors, kind by kind, int32 (kinds · D,).
        moving_sizes: The same of the moving statistics, int32 (2 · D,).
        inverse_batch: 1 / rows that count, (L, 1, 1).
        row_mask: (L, B, 1), or None where all rows count.
        batch_norm_gain: 1 − momentum for each row of the moving statistics, (rows, 1, 1).
        l2_slopes: For each kernel 2 · factor, (lanes, 1, 1); empty without L2.
    """

    def __init__(self, key: ProgramKey, plan: EpochPlan) -> None:
        self._key = key
        self._plan = plan
        depth = key.depth
        self.counts = tf.unstack(plan.counts, num=depth + 1)
        self.vector_sizes = tf.tile(plan.counts[:depth], [len(VECTORS[key.batch_norm])])
        self.moving_sizes = tf.tile(plan.counts[:depth], [2])
        self.inverse_batch = (1.0 / plan.batch_sizes)[:, None, None]
        self.row_mask = plan.row_mask[:, :, None] if key.ragged else None
        self.layers = [self._layer(layer) for layer in range(depth)]
        rows = tf.concat([tf.range(count) for count in self.counts[:depth]], axis=0)
        self._vector_lanes = tf.tile(rows, [len(VECTORS[key.batch_norm])])
        self._moving_lanes = tf.tile(rows, [2])
        self.batch_norm_gain = self.spread_over_moving(1.0 - plan.batch_norm_momentum)
        self.l2_slopes = [2.0 * self.spread(plan.l2[i], i) for i in range(depth + 1)] if key.l2 else []
        self._fixed = None if key.ragged else [self._make(number, None, None) for number in range(depth + 3)]

    def _layer(self, layer: int) -> LayerConstants:
        key, plan, lanes = self._key, self._plan, self.counts[layer]
        inverse_batch = self.inverse_batch[:lanes]
        return LayerConstants(
            inverse_batch=inverse_batch,
            row_weights=plan.row_mask[:lanes, None, :] * inverse_batch if key.ragged else None,
            row_mask=plan.row_mask[:lanes, :, None] if key.ragged else None,
            unit_mask=plan.unit_mask[layer, :lanes] if key.masks_units else None,
            dropout=plan.dropout[layer, :lanes, None] if key.dropout else None,
        )

    def spread(self, values: Any, number: int) -> Any:
        """Return one value a lane, (L,), spread over the axes of the weights of this number."""
        if number < self._key.depth:
            values = values[: self.counts[number]]
        elif number == self._key.depth + 1:
            values = tf.gather(values, self._vector_lanes)
        return values[:, None, None]

    def spread_over_moving(self, values: Any) -> Any:
        """Return one value a lane spread over the rows of the moving statistics."""
        return tf.gather(values, self._moving_lanes)[:, None, None]

    def coefficients(self, number: int, *, learning_rates: Any, active: Any) -> Coefficients:
        """Return the coefficients of the weights of this number in one step.

        Args:
            number: The array's place among the weights.
            learning_rates: (L,); not used for sgd.
            active: (L,), or None where no lane rests.
        """
        rate = None if self._key.optimizer == "sgd" else self.spread(learning_rates, number)
        if self._fixed is None:
            return self._make(number, rate, active)
        return dataclasses.replace(self._fixed[number], learning_rate=rate)

    def _make(self, number: int, learning_rate: Any, active: Any) -> Coefficients:
        momentum = self._plan.momentum
        # In the network's type, as TensorFlow's kernels do: 1 − 0.999 is 1.3e-5 off in float32.
        square_gain = 1.0 - tf.constant(SQUARE_DECAYS[self._key.optimizer], self._key.dtype)
        if active is None:
            return Coefficients(
                learning_rate=learning_rate,
                momentum=self.spread(momentum, number),
                gain=self.spread(1.0 - momentum, number),
                square_gain=square_gain,
                active=None,
            )
        return Coefficients(
            learning_rate=learning_rate,
            momentum=self.spread(tf.where(active > 0, momentum, 1.0), number),
            gain=self.spread((1.0 - momentum) * active, number),
            square_gain=self.spread(square_gain * active, number),
            active=self.spread(active, number),
        )
