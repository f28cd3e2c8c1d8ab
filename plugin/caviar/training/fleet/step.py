"""One step of all lanes: take a batch, forward, backward, update."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from ...config import Optimizer
from ...program_key import ProgramKey
from ..randomness import keep_scale
from ..update_rules import EPSILON
from .constants import Coefficients, Constants
from .data import DataTensors, normalized
from .layers import VECTORS, LayerPass, predict_layer
from .plan import EpochPlan


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stacks:
    """The arrays of `lanes.stack`: what a step reads and changes."""

    weights: list[Any]  # hidden kernels, the heads' kernel, vectors, the heads' bias
    moving: Any  # moving statistics
    slots: list[list[Any]]  # for each slot of the optimizer, one array as each weight

    @classmethod
    def of(cls, arrays: Sequence[Any], *, key: ProgramKey) -> "Stacks":
        """Sort the arrays, which come in the order of `lanes.stack`."""
        n_weights = key.depth + 3
        slots = arrays[n_weights + 1 :]
        return cls(
            weights=list(arrays[:n_weights]),
            moving=arrays[n_weights],
            slots=[list(slots[start : start + n_weights]) for start in range(0, len(slots), n_weights)],
        )

    def arrays(self) -> list[Any]:
        """Return the arrays in the order of `lanes.stack`."""
        return [*self.weights, self.moving, *(slot for slots in self.slots for slot in slots)]


def run_step(
    key: ProgramKey, data: DataTensors, plan: EpochPlan, constants: Constants, *, index: Any, stacks: Stacks
) -> tuple[Any, Any, Stacks]:
    """Trace one step.

    Returns:
        Before the step, by lane, (L,): rows whose class is right, and the sum of the rows' losses in nats; and the
        stacks after it.
    """
    rows = tf.gather(plan.rows, index)
    features = normalized(tf.gather(data.train_features, rows), mean=data.mean, scale=data.scale, dtype=key.dtype)
    vectors = _split_vectors(key, constants, stacks)
    row_keys = tf.gather(plan.row_keys, index) if key.dropout else None
    passes, ends = [], []
    for layer, own in enumerate(constants.layers):
        dropout_scale = None
        if row_keys is not None:
            dropout_scale = keep_scale(row_keys[: constants.counts[layer]], plan.column_keys[layer], own.dropout)
        done = LayerPass(features, stacks.weights[layer], vectors[layer], own, key=key, dropout_scale=dropout_scale)
        passes.append(done)
        features, end = tf.split(done.outputs, own.split, axis=0, num=2)
        ends.append(end)
    top = _join(ends)
    logits = tf.matmul(top, stacks.weights[key.depth]) + stacks.weights[key.depth + 2]
    labels = tf.gather(data.train_labels, rows)
    losses, correct, slopes = judge(logits, labels)
    if data.class_weights is not None:
        weights = tf.gather(data.class_weights, labels)
        losses, slopes = losses * weights, slopes * weights[..., None]
    slopes = slopes * constants.slope_scale.at(index)
    if key.ragged:
        slopes = slopes * constants.row_mask
        counted = plan.row_mask * tf.gather(plan.active, index)[:, None]
        correct, losses = correct * counted, losses * counted
    gradients = _differentiate(key, constants, passes, top=top, slopes=slopes, weights=stacks.weights)
    for number, penalty in enumerate(constants.l2_slopes):  # the slope of factor · w² is 2 · factor · w
        gradients[number] += penalty.at(index) * stacks.weights[number]
    new = _update(key, constants, stacks, gradients, index=index)
    if key.batch_norm != "none":
        statistics = tf.concat([done.statistics[which] for which in range(2) for done in passes], axis=0)
        moving = stacks.moving + (statistics - stacks.moving) * constants.moving_gain.at(index)
        new = dataclasses.replace(new, moving=moving)
    return tf.reduce_sum(correct, axis=1), tf.reduce_sum(losses, axis=1), new


def predict(key: ProgramKey, constants: Constants, stacks: Stacks, features: Any) -> Any:
    """Return logits (L, rows, classes) of examples (rows, n_features), the same in all lanes."""
    depth = key.depth
    vectors = _split_vectors(key, constants, stacks)
    moving: list[Any] = [None] * depth
    if key.batch_norm != "none":
        parts = tf.split(stacks.moving, constants.moving_sizes, axis=0, num=2 * depth)
        moving = list(zip(parts[:depth], parts[depth:], strict=True))
    # Spread by hand: a product that spreads one of its sides leaves oneDNN for a slower path.
    ends, values = [], tf.tile(features[None], [constants.counts[0], 1, 1])
    for layer, own in enumerate(constants.layers):
        outputs = predict_layer(
            values, stacks.weights[layer], vectors[layer], key=key, moving=moving[layer], unit_mask=own.unit_mask
        )
        values, end = tf.split(outputs, own.split, axis=0, num=2)
        ends.append(end)
    return tf.matmul(_join(ends), stacks.weights[depth]) + stacks.weights[depth + 2]


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


def _split_vectors(key: ProgramKey, constants: Constants, stacks: Stacks) -> list[dict[str, Any]]:
    """Return each hidden layer's trainable vectors by name."""
    names = VECTORS[key.batch_norm]
    parts = tf.split(stacks.weights[key.depth + 1], constants.vector_sizes, axis=0, num=len(names) * key.depth)
    return [
        {name: parts[number * key.depth + layer] for number, name in enumerate(names)} for layer in range(key.depth)
    ]


def _join(ends: list[Any]) -> Any:
    """Return the lanes' last hidden outputs in the lanes' order, in which the deepest stand first."""
    return ends[0] if len(ends) == 1 else tf.concat(ends[::-1], axis=0)


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
        kernels[layer], vectors[layer], of_product = passes[layer].backward(gradient)
        if layer:
            from_above = tf.matmul(of_product, weights[layer], transpose_b=True)
    stacked = tf.concat([parts[name] for name in VECTORS[key.batch_norm] for parts in vectors], axis=0)
    head, head_bias = tf.matmul(top, slopes, transpose_a=True), tf.reduce_sum(slopes, axis=1, keepdims=True)
    return [*kernels, head, stacked, head_bias]


def _update(key: ProgramKey, constants: Constants, stacks: Stacks, gradients: list[Any], *, index: Any) -> Stacks:
    update = _UPDATES[key.optimizer]
    parts = enumerate(zip(stacks.weights, gradients, *stacks.slots, strict=True))
    updated = [update(weight, own, slope, constants.coefficients(n, index)) for n, (weight, slope, *own) in parts]
    slots = zip(*(changed for _, changed in updated), strict=True)
    return Stacks(weights=[weight for weight, _ in updated], moving=stacks.moving, slots=[*map(list, slots)])


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


_UPDATES: dict[Optimizer, Callable[[Any, Sequence[Any], Any, Coefficients], tuple[Any, list[Any]]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "rmsprop": _rmsprop,
}
"""Weight, slots, gradient and coefficients → the new weight and slots. The formulas are `update_rules.apply_update`'s.

For ``sgd`` the gradient is already multiplied by the learning rate: the loss' few logits were, before propagation.
"""
