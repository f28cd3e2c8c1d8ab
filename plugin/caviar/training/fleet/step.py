"""One step of all lanes: take a batch, forward, backward, update."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ...program_key import ProgramKey
from ..randomness import keep_scale
from .data import DataTensors, normalized
from .layers import VECTORS, LayerInputs, LayerPass, pass_backward, pass_forward, pass_validation
from .plan import Constants, EpochPlan
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
    loss: Any  # summed over the lane's rows, in nats


def run_step(
    key: ProgramKey, data: DataTensors, plan: EpochPlan, constants: Constants, *, index: Any, state: State
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
    rows = tf.gather(plan.rows, index)
    features = normalized(tf.gather(data.train_features, rows), mean=data.mean, scale=data.scale, dtype=key.dtype)
    vectors = split_vectors(key, constants, state)
    row_keys = tf.gather(plan.row_keys, index) if key.dropout else None
    passes, ends = [], []
    for layer in range(key.depth):
        inputs = _training_inputs(plan, constants, layer, state.weights[layer], vectors[layer], row_keys)
        done = pass_forward(features, inputs, activation=key.activation, batch_norm=key.batch_norm)
        passes.append(done)
        features, end = tf.split(done.outputs, constants.layers[layer].split, axis=0, num=2)
        ends.append(end)
    top = join(ends)
    logits = tf.matmul(top, state.weights[key.depth]) + state.weights[key.depth + 2]
    losses, correct, slopes = judge(logits, tf.gather(data.train_labels, rows))
    slopes = slopes * constants.slope_scale(index)
    if key.ragged:
        slopes = slopes * constants.row_mask
        counted = plan.row_mask * tf.gather(plan.active, index)[:, None]
        correct, losses = correct * counted, losses * counted
    gradients = _differentiate(key, constants, passes, top=top, slopes=slopes, weights=state.weights)
    for number in range(key.depth + 1):
        penalty = constants.l2_slope(number, index)
        if penalty is not None:  # the slope of factor · w² is 2 · factor · w
            gradients[number] += penalty * state.weights[number]
    new = _update(key, constants, state, gradients, index=index)
    return StepResult(
        state=dataclasses.replace(new, moving=_move(key, constants, state.moving, passes, index=index)),
        n_correct=tf.reduce_sum(correct, axis=1),
        loss=tf.reduce_sum(losses, axis=1),
    )


def predict(key: ProgramKey, constants: Constants, state: State, features: Any) -> Any:
    """Return logits (L, rows, classes) of examples (rows, n_features), the same in all lanes."""
    depth = key.depth
    vectors = split_vectors(key, constants, state)
    moving: list[Any] = [None] * depth
    if key.batch_norm != "none":
        parts = tf.split(state.moving, constants.moving_sizes, axis=0, num=2 * depth)
        moving = list(zip(parts[:depth], parts[depth:], strict=True))
    # Spread by hand: a product that spreads one of its sides leaves oneDNN for a slower path.
    ends, values = [], tf.tile(features[None], [constants.counts[0], 1, 1])
    for layer in range(depth):
        inputs = LayerInputs(
            kernel=state.weights[layer], vectors=vectors[layer], unit_mask=constants.layers[layer].unit_mask
        )
        outputs = pass_validation(values, inputs, moving[layer], activation=key.activation, batch_norm=key.batch_norm)
        values, end = tf.split(outputs, constants.layers[layer].split, axis=0, num=2)
        ends.append(end)
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
    depth = key.depth
    at_ends = tf.split(tf.matmul(slopes, weights[depth], transpose_b=True), constants.ends, axis=0, num=depth)
    kernels: list[Any] = [None] * depth
    vectors: list[Any] = [None] * depth
    from_above = None
    for layer in reversed(range(depth)):
        gradient = at_ends[depth - 1 - layer]
        if from_above is not None:
            gradient = tf.concat([from_above, gradient], axis=0)
        found = pass_backward(passes[layer], gradient, batch_norm=key.batch_norm)
        kernels[layer], vectors[layer] = found.kernel, found.vectors
        if layer:
            from_above = tf.matmul(found.product, weights[layer], transpose_b=True)
    stacked = tf.concat([parts[name] for name in VECTORS[key.batch_norm] for parts in vectors], axis=0)
    head, head_bias = tf.matmul(top, slopes, transpose_a=True), tf.reduce_sum(slopes, axis=1, keepdims=True)
    return [*kernels, head, stacked, head_bias]


def _update(key: ProgramKey, constants: Constants, state: State, gradients: list[Any], *, index: Any) -> State:
    weights: list[Any] = []
    slots: list[list[Any]] = [[] for _ in state.slots]
    for number, (weight, gradient) in enumerate(zip(state.weights, gradients, strict=True)):
        own = [slot[number] for slot in state.slots]
        updated, changed = UPDATES[key.optimizer](weight, own, gradient, constants.coefficients(number, index))
        weights.append(updated)
        for slot, values in zip(slots, changed, strict=True):
            slot.append(values)
    return State(weights=weights, moving=state.moving, slots=slots)


def _move(key: ProgramKey, constants: Constants, moving: Any, passes: list[LayerPass], *, index: Any) -> Any:
    """Move the moving statistics towards the batch's."""
    if key.batch_norm == "none":
        return moving
    statistics = tf.concat([done.statistics[which] for which in range(2) for done in passes], axis=0)
    return moving + (statistics - moving) * constants.moving_gain(index)
