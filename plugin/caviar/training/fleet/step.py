"""One step of all lanes: take a batch, forward, backward, update."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ..dropout import keep_scale
from .data import FleetData, normalized
from .layers import VECTORS, LayerInputs, LayerPass, pass_backward, pass_forward, pass_validation
from .plan import Constants, EpochPlan, ProgramKey
from .updates import UPDATES


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The arrays of `stacks.stack`.

    Attributes:
        weights: Kernels, the head's kernel, vectors, the head's bias.
        moving: Moving statistics.
        slots: For each slot of the optimizer, one array as each weight.
    """

    weights: list[Any]
    moving: Any
    slots: list[list[Any]]

    @classmethod
    def of(cls, arrays: Sequence[Any], *, n_weights: int) -> "State":
        """Cut the arrays of `stacks.stack`."""
        slots = arrays[n_weights + 1 :]
        return cls(
            weights=list(arrays[:n_weights]),
            moving=arrays[n_weights],
            slots=[list(slots[start : start + n_weights]) for start in range(0, len(slots), n_weights)],
        )

    def arrays(self) -> list[Any]:
        """Return them in the order of `stacks.stack`."""
        return [*self.weights, self.moving, *(slot for slots in self.slots for slot in slots)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StepResult:
    """What a step gives: the state after it, and of each lane, (L,), before it."""

    state: State
    n_correct: Any
    loss: Any  # mean over the lane's rows, in nats


def run_step(
    key: ProgramKey, data: FleetData, plan: EpochPlan, constants: Constants, *, index: Any, state: State
) -> StepResult:
    """Trace one step.

    Args:
        key: The program's.
        data: What it trains on.
        plan: The epoch's.
        constants: Made of the plan.
        index: The step's number in the epoch, a scalar.
        state: Before it.
    """
    rows = plan.rows[index]
    features = normalized(tf.gather(data.train_features, rows), mean=data.mean, scale=data.scale, dtype=key.dtype)
    vectors = split_vectors(key, constants, state)
    row_keys = plan.row_keys[index] if key.dropout else None
    passes, ends = [], []
    for layer in range(key.depth):
        inputs = _training_inputs(plan, constants, layer, state.weights[layer], vectors[layer], row_keys)
        done = pass_forward(features, inputs, activation=key.activation, batch_norm=key.batch_norm)
        passes.append(done)
        ends.append(done.outputs[constants.counts[layer + 1] :])
        features = done.outputs[: constants.counts[layer + 1]]
    top = join(ends)
    logits = tf.matmul(top, state.weights[key.depth]) + state.weights[key.depth + 2]
    losses, correct, slopes = judge(logits, tf.gather(data.train_labels, rows))

    rates = plan.learning_rates[index]
    scale = constants.inverse_batch
    if key.optimizer == "sgd":  # the few logits' slopes are scaled, and not every kernel's gradient
        scale = scale * rates[:, None, None]
    if key.ragged:
        scale = scale * constants.row_mask
    active = plan.active[index] if key.ragged else None
    gradients = _differentiate(key, constants, passes, top=top, slopes=slopes * scale, weights=state.weights)
    gradients = _with_penalties(key, constants, gradients, state.weights, rates)
    new = _update(key, constants, state, gradients, rates=rates, active=active)
    moving = _move(key, constants, state.moving, passes, active)
    if key.ragged:
        counted = plan.row_mask * plan.active[index][:, None]
        correct, losses = correct * counted, losses * counted
    return StepResult(
        state=dataclasses.replace(new, moving=moving),
        n_correct=tf.reduce_sum(correct, axis=1),
        loss=tf.reduce_sum(losses, axis=1) * constants.inverse_batch[:, 0, 0],
    )


def predict(key: ProgramKey, constants: Constants, state: State, features: Any) -> Any:
    """Return logits (L, rows, classes) of examples (rows, n_features), the same in all lanes."""
    depth = key.depth
    vectors = split_vectors(key, constants, state)
    moving: list[Any] = [None] * depth
    if key.batch_norm != "none":
        parts = tf.split(state.moving, constants.moving_sizes, axis=0, num=2 * depth)
        moving = list(zip(parts[:depth], parts[depth:], strict=True))
    ends, values = [], features[None]
    for layer in range(depth):
        inputs = LayerInputs(
            kernel=state.weights[layer], vectors=vectors[layer], unit_mask=constants.layers[layer].unit_mask
        )
        outputs = pass_validation(values, inputs, moving[layer], activation=key.activation, batch_norm=key.batch_norm)
        ends.append(outputs[constants.counts[layer + 1] :])
        values = outputs[: constants.counts[layer + 1]]
    return tf.matmul(join(ends), state.weights[depth]) + state.weights[depth + 2]


def split_vectors(key: ProgramKey, constants: Constants, state: State) -> list[dict[str, Any]]:
    """Return each hidden layer's trainable vectors by name."""
    names = VECTORS[key.batch_norm]
    parts = tf.split(state.weights[key.depth + 1], constants.vector_sizes, axis=0, num=len(names) * key.depth)
    return [
        {name: parts[number * key.depth + layer] for number, name in enumerate(names)} for layer in range(key.depth)
    ]


def join(ends: list[Any]) -> Any:
    """Return the lanes' last hidden outputs in the lanes' order, in which the deepest stand first."""
    return ends[0] if len(ends) == 1 else tf.concat(ends[::-1], axis=0)


def judge(logits: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return each row's cross-entropy in nats, 1 where its class is right, else 0, and the slope of its logits.

    Shapes:
        logits (L, rows, classes); labels (L, rows); results (L, rows), (L, rows) and (L, rows, classes).
    """
    shape, flat_labels = tf.shape(labels), tf.reshape(labels, [-1])
    flat = tf.reshape(logits, [-1, logits.shape[-1]])
    losses, slopes = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=flat, labels=flat_labels)
    right = tf.cast(tf.equal(tf.argmax(flat, axis=1, output_type=tf.int32), flat_labels), logits.dtype)
    return tf.reshape(losses, shape), tf.reshape(right, shape), tf.reshape(slopes, tf.shape(logits))


def _training_inputs(
    plan: EpochPlan, constants: Constants, layer: int, kernel: Any, vectors: dict[str, Any], row_keys: Any
) -> LayerInputs:
    own = constants.layers[layer]
    dropout_scale = None
    if row_keys is not None:
        dropout_scale = keep_scale(row_keys[: constants.counts[layer]], plan.column_keys[layer], own.dropout)
    return LayerInputs(
        kernel=kernel,
        vectors=vectors,
        unit_mask=own.unit_mask,
        inverse_batch=own.inverse_batch,
        row_weights=own.row_weights,
        row_mask=own.row_mask,
        dropout_scale=dropout_scale,
    )


def _differentiate(
    key: ProgramKey, constants: Constants, passes: list[LayerPass], *, top: Any, slopes: Any, weights: list[Any]
) -> list[Any]:
    """Return the gradients of the weights, in their order, from the slopes of the logits."""
    depth, counts = key.depth, constants.counts
    at_ends = tf.matmul(slopes, weights[depth], transpose_b=True)
    kernels: list[Any] = [None] * depth
    vectors: list[Any] = [None] * depth
    from_above = None
    for layer in reversed(range(depth)):
        gradient = at_ends[counts[layer + 1] : counts[layer]]
        if from_above is not None:
            gradient = tf.concat([from_above, gradient], axis=0)
        found = pass_backward(passes[layer], gradient, batch_norm=key.batch_norm)
        kernels[layer], vectors[layer] = found.kernel, found.vectors
        if layer:
            from_above = tf.matmul(found.product, weights[layer], transpose_b=True)
    stacked = tf.concat([parts[name] for name in VECTORS[key.batch_norm] for parts in vectors], axis=0)
    head, head_bias = tf.matmul(top, slopes, transpose_a=True), tf.reduce_sum(slopes, axis=1, keepdims=True)
    return [*kernels, head, stacked, head_bias]


def _with_penalties(
    key: ProgramKey, constants: Constants, gradients: list[Any], weights: list[Any], rates: Any
) -> list[Any]:
    """Add to each kernel's gradient the slope of factor · w², which is 2 · factor · w."""
    penalised = []
    for number, slopes in enumerate(constants.l2_slopes):
        by_lane = slopes * constants.spread(rates, number) if key.optimizer == "sgd" else slopes
        penalised.append(gradients[number] + by_lane * weights[number])
    return penalised + gradients[len(penalised) :]


def _update(
    key: ProgramKey, constants: Constants, state: State, gradients: list[Any], *, rates: Any, active: Any
) -> State:
    weights: list[Any] = []
    slots: list[list[Any]] = [[] for _ in state.slots]
    for number, (weight, gradient) in enumerate(zip(state.weights, gradients, strict=True)):
        own = [slot[number] for slot in state.slots]
        by = constants.coefficients(number, learning_rates=rates, active=active)
        updated, changed = UPDATES[key.optimizer](weight, own, gradient, by)
        weights.append(updated)
        for slot, values in zip(slots, changed, strict=True):
            slot.append(values)
    return State(weights=weights, moving=state.moving, slots=slots)


def _move(key: ProgramKey, constants: Constants, moving: Any, passes: list[LayerPass], active: Any) -> Any:
    """Move the moving statistics towards the batch's."""
    if key.batch_norm == "none":
        return moving
    statistics = tf.concat([done.statistics[which] for which in range(2) for done in passes], axis=0)
    gain = constants.batch_norm_gain
    if active is not None:
        gain = gain * constants.spread_over_moving(active)
    return moving + (statistics - moving) * gain
