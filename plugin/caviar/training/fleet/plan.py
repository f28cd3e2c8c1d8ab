"""What the host tells a program about an epoch: made from the lanes as they stand."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...program_key import ProgramKey
from ..randomness import dropout_column_keys, dropout_row_keys, epoch_order
from ..update_rules import corrected_learning_rate, decayed_learning_rate
from .data import FleetData
from .lanes import Layout, RunningLane

# Values of one validation batch's widest layer, over all lanes: 4 M floats are 16 MB, half of what a small server's
# last cache holds. Batches of fewer than 100 rows would multiply badly.
_VALIDATION_VALUES = 1 << 22
_FEWEST_VALIDATION_ROWS = 100


class EpochPlan(NamedTuple):
    """One epoch's plan, as tensors. L lanes, S steps, B rows a batch, D layers, W units; unused parts are empty."""

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


def program_key(lanes: Sequence[RunningLane], *, depth: int, dtype: str) -> ProgramKey:
    """Return which program trains these lanes, which have the same activation, batch norm placement and optimizer."""
    network, training = lanes[0].spec.network, lanes[0].spec.training
    return ProgramKey(
        depth=depth,
        activation=network.activation,
        batch_norm=network.batch_norm,
        optimizer=training.optimizer,
        ragged=len({lane.batch_size for lane in lanes}) > 1,
        dropout=any(lane.live["dropout"].any() for lane in lanes),
        l2=any(lane.live["l2"].any() for lane in lanes),
        dtype=dtype,
    )


def make_plan(
    lanes: Sequence[RunningLane], key: ProgramKey, data: FleetData, *, lasting: Mapping[str, Any]
) -> EpochPlan:
    """Return the next epoch's plan for lanes in their layout's order; ``lasting`` is from `lasting_parts`."""
    n_steps = max(lane.n_steps for lane in lanes)
    n_rows = max(lane.batch_size for lane in lanes)
    rows = np.zeros((n_steps, len(lanes), n_rows), np.int32)
    row_keys = np.zeros((n_steps, len(lanes), n_rows) if key.dropout else (0, 0, 0), np.uint32)
    for index, lane in enumerate(lanes):
        n_used, shape = lane.n_steps * lane.batch_size, (lane.n_steps, lane.batch_size)
        order = epoch_order(lane.seed, epoch=lane.epoch, n_examples=data.n_train)[:n_used]
        rows[: lane.n_steps, index, : lane.batch_size] = order.reshape(shape)
        if key.dropout:
            keys = dropout_row_keys(lane.seed, epoch=lane.epoch, n_rows=n_used)
            row_keys[: lane.n_steps, index, : lane.batch_size] = keys.reshape(shape)
    return EpochPlan(
        rows=tf.constant(rows),
        row_keys=tf.constant(row_keys),
        learning_rates=tf.constant(_learning_rates(lanes, n_steps), key.dtype),
        **lasting,
    )


def lasting_parts(lanes: Sequence[RunningLane], layout: Layout, key: ProgramKey, data: FleetData) -> dict[str, Any]:
    """Return the parts of the plan that stay the same while the lanes and their hyperparameters do."""
    n_steps = np.array([lane.n_steps for lane in lanes])
    batch_sizes = np.array([lane.batch_size for lane in lanes])
    l2, nothing = [lane.live["l2"] for lane in lanes], np.zeros((0, 0))
    floats: dict[str, npt.NDArray[np.generic]] = {
        "active": np.arange(n_steps.max())[:, None] < n_steps if key.ragged else nothing,
        "row_mask": np.arange(batch_sizes.max()) < batch_sizes[:, None] if key.ragged else nothing,
        "batch_sizes": batch_sizes,
        "n_steps": n_steps,
        "momentum": np.array([lane.live["momentum"] for lane in lanes]),
        "batch_norm_momentum": np.array([lane.spec.network.batch_norm_momentum for lane in lanes]),
        "dropout": _by_layer([lane.live["dropout"] for lane in lanes], key.depth),
        "l2": np.vstack([_by_layer([own[:-1] for own in l2], key.depth), [own[-1] for own in l2]]),  # the heads' last
        "unit_mask": _unit_mask(lanes, layout) if key.masks_units else np.zeros((key.depth, 0, 1, 0)),
    }
    width = layout.width if key.dropout else 0
    whole = {
        "counts": np.array(layout.counts, np.int32),
        "column_keys": np.stack([dropout_column_keys(layer, width) for layer in range(key.depth)]),
        "validation_rows": np.array(_validation_rows(layout, data.n_validation), np.int32),
    }
    tensors = {name: tf.constant(value) for name, value in whole.items()}
    return tensors | {name: tf.constant(value.astype(key.dtype)) for name, value in floats.items()}


def _learning_rates(lanes: Sequence[RunningLane], n_steps: int) -> npt.NDArray[np.float64]:
    """Return each step's rate of each lane, (steps, lanes); 0 where a lane rests."""
    rates = np.zeros((n_steps, len(lanes)))
    if lanes[0].spec.training.optimizer != "adam" and all(lane.spec.training.decay == "none" for lane in lanes):
        for index, lane in enumerate(lanes):
            rates[: lane.n_steps, index] = lane.live["learning_rate"]
        return rates
    kinds = [(lane.spec.training.decay, lane.spec.training.epochs, lane.n_steps) for lane in lanes]
    for decay, epochs, own_steps in set(kinds):
        chosen = [index for index, kind in enumerate(kinds) if kind == (decay, epochs, own_steps)]
        steps = np.arange(own_steps)[:, None]
        done = np.array([lanes[index].epoch for index in chosen], np.float64)
        live = {
            name: np.array([lanes[index].live[name] for index in chosen])
            for name in ("learning_rate", "momentum", "decay_rate")
        }
        decayed = decayed_learning_rate(
            decay,
            tf.constant(live["learning_rate"]),
            decay_rate=tf.constant(live["decay_rate"]),
            epochs_done=tf.constant(done + steps / own_steps),
            epochs=epochs,
        )
        rates[:own_steps, chosen] = corrected_learning_rate(
            lanes[0].spec.training.optimizer,
            decayed.numpy(),
            momentum=live["momentum"],
            step=done * own_steps + steps + 1.0,
        )
    return rates


def _by_layer(values: Sequence[npt.NDArray[np.float64]], depth: int) -> npt.NDArray[np.float64]:
    """Return a table with a row for each layer, from the values that each lane has for its own layers."""
    table = np.zeros((depth, len(values)))
    for index, own in enumerate(values):
        table[: len(own), index] = own
    return table


def _unit_mask(lanes: Sequence[RunningLane], layout: Layout) -> npt.NDArray[np.float64]:
    mask = np.zeros((layout.depth, len(lanes), 1, layout.width))
    for index, lane in enumerate(lanes):
        for layer, width in enumerate(lane.spec.network.widths):
            mask[layer, index, 0, :width] = 1.0
    return mask


def _validation_rows(layout: Layout, n_examples: int) -> int:
    """Return how many examples one validation batch has; all batches are of equal size."""
    bound = max(_FEWEST_VALIDATION_ROWS, _VALIDATION_VALUES // (layout.counts[0] * layout.width))
    n_batches = -(-n_examples // bound)
    return -(-n_examples // n_batches)
