"""An epoch's plan, made on the host from the lanes as they stand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...program_key import ProgramKey
from ..randomness import dropout_column_keys, dropout_row_keys, epoch_order
from ..update_rules import corrected_learning_rate, decayed_learning_rate
from .data import FleetData
from .lane import RunningLane
from .plan import EpochPlan
from .stacks import Layout

# Values of one validation batch's widest layer, over all lanes: 4 M floats are 16 MB, half of what a small server's
# last cache holds. Batches of fewer than 100 rows would multiply badly.
_VALIDATION_VALUES = 1 << 22
_FEWEST_VALIDATION_ROWS = 100


def program_key(lanes: Sequence[RunningLane], *, depth: int, dtype: str) -> ProgramKey:
    """Return which program trains these lanes, which are equal in activation, placement and update rule."""
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
    """Return the next epoch's plan.

    Args:
        lanes: In their layout's order.
        key: Their program's.
        data: What they train on.
        lasting: From `lasting_parts`, for the same lanes.
    """
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
    """Return what of the plan stays the same while the lanes and their hyperparameters do; see `make_plan`."""
    n_steps = max(lane.n_steps for lane in lanes)
    n_rows = max(lane.batch_size for lane in lanes)
    active, row_mask = _ragged_masks(lanes, n_steps, n_rows) if key.ragged else (np.zeros((0, 0)), np.zeros((0, 0)))
    floats: dict[str, npt.NDArray[np.float64]] = {
        "active": active,
        "row_mask": row_mask,
        "batch_sizes": np.array([lane.batch_size for lane in lanes], np.float64),
        "n_steps": np.array([lane.n_steps for lane in lanes], np.float64),
        "momentum": np.array([lane.live["momentum"] for lane in lanes]),
        "batch_norm_momentum": np.array([lane.spec.network.batch_norm_momentum for lane in lanes]),
        "dropout": _by_layer([lane.live["dropout"] for lane in lanes], key.depth),
        "l2": _by_kernel([lane.live["l2"] for lane in lanes], key.depth),
        "unit_mask": _unit_mask(lanes, layout) if key.masks_units else np.zeros((key.depth, 0, 1, 0)),
    }
    whole = {
        "counts": np.array(layout.counts, np.int32),
        "column_keys": _column_keys(layout) if key.dropout else np.zeros((key.depth, 0), np.uint32),
        "validation_rows": np.array(_validation_rows(layout, data.n_validation), np.int32),
    }
    tensors = {name: tf.constant(value) for name, value in whole.items()}
    return {**tensors, **{name: tf.constant(value, key.dtype) for name, value in floats.items()}}


def _learning_rates(lanes: Sequence[RunningLane], n_steps: int) -> npt.NDArray[np.float64]:
    """Return each step's rate of each lane, (steps, lanes); 0 where a lane rests."""
    rates = np.zeros((n_steps, len(lanes)))
    if lanes[0].spec.training.optimizer != "adam" and all(lane.spec.training.decay == "none" for lane in lanes):
        for index, lane in enumerate(lanes):
            rates[: lane.n_steps, index] = lane.live["learning_rate"]
        return rates
    kinds = {(lane.spec.training.decay, lane.spec.training.epochs, lane.n_steps) for lane in lanes}
    for decay, epochs, own_steps in kinds:
        chosen = [
            index
            for index, lane in enumerate(lanes)
            if (lane.spec.training.decay, lane.spec.training.epochs, lane.n_steps) == (decay, epochs, own_steps)
        ]
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


def _ragged_masks(
    lanes: Sequence[RunningLane], n_steps: int, n_rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    own_steps, own_rows = (np.array([getattr(lane, name) for lane in lanes]) for name in ("n_steps", "batch_size"))
    active = (np.arange(n_steps)[:, None] < own_steps).astype(np.float64)
    return active, (np.arange(n_rows) < own_rows[:, None]).astype(np.float64)


def _by_layer(values: Sequence[npt.NDArray[np.float64]], depth: int) -> npt.NDArray[np.float64]:
    """Return one row a layer of values that each lane has for its own layers."""
    table = np.zeros((depth, len(values)))
    for index, own in enumerate(values):
        table[: len(own), index] = own
    return table


def _by_kernel(values: Sequence[npt.NDArray[np.float64]], depth: int) -> npt.NDArray[np.float64]:
    """Return one row a hidden layer and a last one for the heads, of values for each lane's own kernels."""
    heads = np.array([own[-1] for own in values])
    return np.concatenate([_by_layer([own[:-1] for own in values], depth), heads[None]])


def _unit_mask(lanes: Sequence[RunningLane], layout: Layout) -> npt.NDArray[np.float64]:
    mask = np.zeros((layout.depth, len(lanes), 1, layout.width))
    for index, lane in enumerate(lanes):
        for layer, width in enumerate(lane.spec.network.widths):
            mask[layer, index, 0, :width] = 1.0
    return mask


def _column_keys(layout: Layout) -> npt.NDArray[np.uint32]:
    return np.stack([dropout_column_keys(layer, layout.width) for layer in range(layout.depth)])


def _validation_rows(layout: Layout, n_examples: int) -> int:
    """Return how many examples are judged at a time: batches of equal size."""
    bound = max(_FEWEST_VALIDATION_ROWS, _VALIDATION_VALUES // (layout.counts[0] * layout.width))
    n_batches = -(-n_examples // bound)
    return -(-n_examples // n_batches)
