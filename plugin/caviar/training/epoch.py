"""One epoch of training and its validation, compiled into one program."""

import contextlib
import dataclasses
import functools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import TrainingConfig
from .class_metrics import class_metrics, counts_by_class
from .forward import DropoutMasks, input_type, other_penalties
from .tensorflow_private import call_loop_bodies
from .tensors import TensorSplits
from .update_rules import apply_update, corrected_learning_rate, decayed_learning_rate

# Validation examples a batch: enough to keep the cores busy, and 1,000 images of 32×32×64 activations take 260 MB.
_VALIDATION_ROWS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EpochParts:
    """What a compiled epoch is made of: constants of the program, and variables that it reads and writes."""

    model: Any  # the built keras.Model
    weights: list[Any]  # its trainable variables, at least one
    data: TensorSplits
    training: TrainingConfig  # optimizer, decay, epochs and batch size are constants; the rest is in live
    # Hyperparameters as float64 variables: learning_rate, momentum and decay_rate (); dropout (n_dropouts,);
    # l2 (n_kernels,).
    live: dict[str, Any]
    slots: list[list[Any]]  # the optimizer's variables of each weight
    dropouts: list[Any]  # the Dropout layers whose masks are ours
    kernels: list[int]  # which of the weights l2 penalises
    from_logits: bool  # whether the model outputs logits, not probabilities

    @property
    def batch_size(self) -> int:
        """Examples a step; a split smaller than the batch is one batch."""
        return min(self.training.batch_size, self.data.n_train)

    @property
    def n_steps(self) -> int:
        """Steps an epoch. It skips the examples left over; the next epoch's order skips others."""
        return self.data.n_train // self.batch_size

    @property
    def n_rows(self) -> int:
        """Examples an epoch trains on."""
        return self.n_steps * self.batch_size

    @property
    def n_keys(self) -> int:
        """Random numbers that an epoch's dropout masks take."""
        return self.n_rows if self.dropouts else 0


def trace_epoch(parts: EpochParts, *, jit_compile: bool) -> Any:
    """Return a concrete function that trains for one epoch and validates.

    It takes the examples' order, int32 (n_rows,); the dropout's row keys, uint32 (n_keys,); and the epochs done
    before, a float64 scalar. It returns the metrics in the order of `named_metrics`, float64 (4,) or (6,).
    """
    signature = [
        tf.TensorSpec([parts.n_rows], tf.int32),
        tf.TensorSpec([parts.n_keys], tf.uint32),
        tf.TensorSpec([], tf.float64),
    ]
    # The body has no Python control flow on tensors: without autograph it traces in two thirds of the time.
    # A partial has no code object: TensorFlow, which counts traces by it, would warn of many where each trial has one.
    epoch = functools.partial(_run_epoch, parts)
    function = tf.function(epoch, input_signature=signature, autograph=False, jit_compile=jit_compile)
    return function.get_concrete_function()


def _run_epoch(parts: EpochParts, order: Any, row_keys: Any, epochs_done: Any) -> Any:
    trained = _train(parts, order=order, row_keys=row_keys, epochs_done=epochs_done)
    validated = _validate(parts)
    metrics = tf.stack([*trained, *validated])
    call_loop_bodies(metrics.graph)
    return metrics


def example_losses(outputs: Any, labels: Any, *, from_logits: bool) -> Any:
    """Return each example's cross-entropy, in nats.

    Outputs are logits, whose loss and gradient are finite if they are; or probabilities, which Keras cuts off at 1e-7.

    Shapes:
        outputs (n, n_classes); labels (n,), int32; result (n,), float32 or float64.
    """
    if outputs.dtype not in (tf.float32, tf.float64):
        outputs = tf.cast(outputs, tf.float32)
    if from_logits:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
    return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=False)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _EpochTensors:
    """What an epoch's steps read, computed once before them; in the weights' type."""

    learning_rates: Any  # (n_steps,), corrected for the rule's first steps
    momentum: Any  # ()
    l2_slopes: list[Any]  # one () a kernel: the slope of factor·w² is 2·factor·w
    masks: DropoutMasks | None


def _read_variables(parts: EpochParts, epochs_done: Any) -> _EpochTensors:
    steps = tf.constant(np.arange(parts.n_steps), tf.float64)
    learning_rates = decayed_learning_rate(
        parts.training.decay,
        parts.live["learning_rate"].read_value(),
        decay_rate=parts.live["decay_rate"].read_value(),
        epochs_done=epochs_done + steps / parts.n_steps,
        epochs=parts.training.epochs,
    )
    momentum = parts.live["momentum"].read_value()
    corrected = corrected_learning_rate(
        parts.training.optimizer, learning_rates, momentum=momentum, step=epochs_done * parts.n_steps + steps + 1.0
    )
    kind = parts.weights[0].value.dtype
    return _EpochTensors(
        learning_rates=tf.cast(corrected, kind),
        momentum=tf.cast(momentum, kind),
        l2_slopes=tf.unstack(tf.cast(2.0 * parts.live["l2"].read_value(), kind)) if parts.kernels else [],
        masks=DropoutMasks(parts.dropouts, parts.live["dropout"].read_value()) if parts.dropouts else None,
    )


def _train(parts: EpochParts, *, order: Any, row_keys: Any, epochs_done: Any) -> tuple[Any, Any]:
    """Return the mean accuracy and loss of an epoch's steps."""
    tensors = _read_variables(parts, epochs_done)
    data, size = parts.data, parts.batch_size

    def step(index: Any, n_correct: Any, loss_sum: Any) -> tuple[Any, Any, Any]:
        rows = tf.slice(order, [index * size], [size])
        features, labels = tf.gather(data.train_features, rows), tf.gather(data.train_labels, rows)
        with contextlib.ExitStack() as replaced:
            if tensors.masks is not None:
                replaced.enter_context(tensors.masks.in_place(tf.slice(row_keys, [index * size], [size])))
            outputs, loss, gradients = _differentiate(parts, features, labels)
        _update(parts, tensors, gradients, index)
        call_loop_bodies(loss.graph)
        n_correct += tf.reduce_sum(_is_correct(outputs, labels))
        return index + 1, n_correct, loss_sum + tf.cast(loss, tf.float64)

    zero = tf.constant(0.0, tf.float64)
    _, n_correct, loss_sum = tf.while_loop(lambda index, *_: index < parts.n_steps, step, [0, zero, zero])
    return n_correct / parts.n_rows, loss_sum / parts.n_steps


def _differentiate(parts: EpochParts, features: Any, labels: Any) -> tuple[Any, Any, list[Any]]:
    """Return a batch's outputs, its mean cross-entropy, and each weight's gradient, None where it has none."""
    values = [weight.value for weight in parts.weights]
    # A tape records all that touches a trainable variable: naming the weights spares it the rest.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        outputs = parts.model(tf.cast(features, input_type(parts.model)), training=True)
        losses = example_losses(outputs, labels, from_logits=parts.from_logits)
        if parts.data.class_weights is not None:
            losses *= tf.cast(tf.gather(parts.data.class_weights, labels), losses.dtype)
        loss = tf.reduce_mean(losses)
        penalties = other_penalties(parts.model, [parts.weights[place] for place in parts.kernels])
        total = tf.add_n([loss, *(tf.cast(penalty, loss.dtype) for penalty in penalties)]) if penalties else loss
    return outputs, loss, tape.gradient(total, values)


def _update(parts: EpochParts, tensors: _EpochTensors, gradients: list[Any], index: Any) -> None:
    slopes = dict(zip(parts.kernels, tensors.l2_slopes, strict=True))
    learning_rate = tf.gather(tensors.learning_rates, index)
    for place, (weight, slots, gradient) in enumerate(zip(parts.weights, parts.slots, gradients, strict=True)):
        if gradient is None:
            continue
        gradient = tf.convert_to_tensor(gradient)  # an embedding's comes as rows
        if place in slopes:
            gradient += slopes[place] * weight.value
        apply_update(
            parts.training.optimizer,
            weight.value,
            slots,
            gradient,
            learning_rate=learning_rate,
            momentum=tensors.momentum,
        )
        if weight.constraint is not None:
            weight.assign(weight.constraint(weight))


def _validate(parts: EpochParts) -> list[Any]:
    """Return the metrics of the validation split, which is predicted in batches of a bounded size."""
    data, n_examples = parts.data, parts.data.n_validation
    n_batches = math.ceil(n_examples / _VALIDATION_ROWS)
    size = math.ceil(n_examples / n_batches)

    def batch(index: Any, n_correct: Any, loss_sum: Any, *counts: Any) -> tuple[Any, ...]:
        # The last batch moves back to be of the same size; the examples it repeats then count for nothing.
        start = tf.minimum(index * size, n_examples - size)
        corner = [start, *(0 for _ in data.feature_shape)]
        features = tf.slice(data.validation_features, corner, [size, *data.feature_shape])
        labels = tf.slice(data.validation_labels, [start], [size])
        outputs = parts.model(tf.cast(features, input_type(parts.model)), training=False)
        new = tf.cast(start + tf.range(size) >= index * size, tf.float64)
        losses = tf.cast(example_losses(outputs, labels, from_logits=parts.from_logits), tf.float64)
        # Not losses · new: a repeated example's infinite loss times 0 would be NaN.
        return (
            index + 1,
            n_correct + tf.reduce_sum(_is_correct(outputs, labels) * new),
            loss_sum + tf.reduce_sum(tf.where(new > 0, losses, 0.0)),
            *(before + counts_by_class(outputs, labels, new) for before in counts),
        )

    zero = tf.constant(0.0, tf.float64)
    counts = [tf.zeros([2, data.n_classes], tf.float64)] if data.by_class else []
    begin = [tf.constant(0), zero, zero, *counts]
    if n_batches == 1:
        _, n_correct, loss_sum, *counts = batch(*begin)
    else:
        _, n_correct, loss_sum, *counts = tf.while_loop(lambda index, *_: index < n_batches, batch, begin)
    by_class = class_metrics(counts[0], data.validation_labels) if counts else ()
    return [n_correct / n_examples, loss_sum / n_examples, *by_class]


def _is_correct(outputs: Any, labels: Any) -> Any:
    return tf.cast(tf.equal(tf.argmax(outputs, axis=-1, output_type=tf.int32), labels), tf.float64)
