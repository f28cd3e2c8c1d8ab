"""The program of a fleet: an epoch of all its lanes and their validation, in one tf.function.

Its shapes are open: how many lanes, how wide, which batch size and how many steps is known only when it runs, so one
trace serves every fleet of the same depth, activation, placement of batch norm and update rule. XLA would need one
compilation a shape, at 0.8 to 5 s each, and multiplies small matrices more slowly than oneDNN does.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

import tensorflow as tf

from ...program_key import ProgramKey, program_depth
from ..class_metrics import class_metrics, counts_by_class
from ..tensorflow_private import RegisteredFunction
from ..update_rules import SLOTS
from .constants import Constants
from .data import DataForm, DataTensors, FleetData, normalized
from .kept import KeptPrograms
from .plan import EpochPlan, plan_signature
from .step import Stacks, judge, predict, run_step

_logger: Final = logging.getLogger(__name__)


class FleetPrograms:
    """The programs that the fleets of a process share, each traced when first needed, unless it was ``kept``.

    Args:
        data: The examples that they train on.
        deepest: Hidden layers of the deepest network that will come, or None; see `program_depth`.
        kept: Where traced programs are kept for other processes; None to keep none.
    """

    def __init__(self, data: FleetData, *, deepest: int | None = None, kept: KeptPrograms | None = None) -> None:
        self.data: Final = data
        self.n_traces = 0  # programs that were traced; the others were kept
        self._deepest = deepest
        self._kept = kept
        self._functions: dict[ProgramKey, RegisteredFunction] = {}

    def depth_for(self, depth: int) -> int:
        """Return the depth of the program that trains fleets of this depth."""
        return program_depth(depth, deepest=self._deepest)

    @property
    def keys(self) -> Collection[ProgramKey]:
        """The keys of all programs that exist: a view that grows with them."""
        return self._functions.keys()

    def run(self, key: ProgramKey, plan: EpochPlan, arrays: Sequence[Any]) -> list[Any]:
        """Train for an epoch and validate, by the program of this key; the arrays are those of `lanes.stack`.

        Returns:
            [metrics, *arrays]: metrics (4 or 6, L) are those of each lane, in the order of `named_metrics`.
        """
        inputs = [*self.data.inputs, *plan, *arrays]
        function = self._functions.get(key)
        return self._first_run(key, inputs, arrays) if function is None else function(*inputs)

    def _first_run(self, key: ProgramKey, inputs: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        """Run a program that is new to the process: the kept one if it fits, else trace it now and keep it."""
        signature = [self.data.signature, plan_signature(key), *_stacks_signature(key, self.data)]
        form = self.data.form
        name = f"{key} {form} {signature}"
        function = None if self._kept is None else self._kept.load(name)
        results = None if function is None else _tried(function, inputs, arrays, form=form)
        if function is None or results is None:
            traced = _trace(key, form, signature)
            self.n_traces += 1
            function = RegisteredFunction.of(traced)
            results = function(*inputs)
            if self._kept is not None:
                self._kept.save(name, traced)
        self._functions[key] = function
        return results


def _tried(
    function: RegisteredFunction, inputs: Sequence[Any], arrays: Sequence[Any], *, form: DataForm
) -> list[Any] | None:
    """Return the results of a kept program, or None if it does not run or its results have another form."""
    try:
        results = function(*inputs)
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError as error:
        _logger.warning("A kept program does not fit its data; tracing it again: %s", error.message.split("\n")[0])
        return None
    metrics, *after = results
    fits = metrics.shape[0] == form.n_metrics and [(a.shape, a.dtype) for a in after] == [
        (a.shape, a.dtype) for a in arrays
    ]
    return results if fits else None


def _trace(key: ProgramKey, form: DataForm, signature: Sequence[Any]) -> Any:
    """Return the concrete function of a program; it captures nothing, and serves data of any number of examples.

    A kept program is found by these arguments. So the trace must see nothing else: not the data, whose number of
    classes, say, would be baked in unnoticed.
    """

    def epoch(inputs: list[Any], plan: EpochPlan, *arrays: Any) -> tuple[Any, ...]:
        data, constants = form.tensors(inputs), Constants(key, plan)
        n_correct, loss, trained = _train(key, data, plan, constants, arrays)
        validated = _validate(key, form, data, plan, constants, Stacks.of(trained, key=key))
        n_rows = plan.n_steps * plan.batch_sizes
        return (tf.stack([n_correct / n_rows, loss / n_rows, *validated]), *trained)

    # Without autograph, which the body does not need, it traces faster.
    return tf.function(epoch, input_signature=signature, autograph=False).get_concrete_function()


def _stacks_signature(key: ProgramKey, data: FleetData) -> list[Any]:
    hidden = [[None, None if layer else data.n_features, None] for layer in range(key.depth)]
    weights = [*hidden, [None, None, data.n_classes], [None, 1, None], [None, 1, data.n_classes]]
    shapes = [*weights, [None, 1, None]] + weights * len(SLOTS[key.optimizer])
    return [tf.TensorSpec(shape, key.dtype) for shape in shapes]


def _train(
    key: ProgramKey, data: DataTensors, plan: EpochPlan, constants: Constants, arrays: Sequence[Any]
) -> tuple[Any, Any, list[Any]]:
    """Return each lane's correct rows and the sum of its rows' losses, and the arrays after the epoch."""
    n_steps, zeros = tf.shape(plan.rows)[0], tf.zeros_like(plan.momentum)

    def step(index: Any, n_correct: Any, loss_sum: Any, *arrays: Any) -> tuple[Any, ...]:
        stacks = Stacks.of(arrays, key=key)
        correct, losses, stacks = run_step(key, data, plan, constants, index=index, stacks=stacks)
        return (index + 1, n_correct + correct, loss_sum + losses, *stacks.arrays())

    lanes = tf.TensorShape([None])
    _, n_correct, loss_sum, *trained = tf.while_loop(
        lambda index, *_: index < n_steps,
        step,
        [tf.constant(0), zeros, zeros, *arrays],
        shape_invariants=[tf.TensorShape([]), lanes, lanes, *(array.shape for array in arrays)],
        parallel_iterations=1,
    )
    return n_correct, loss_sum, trained


def _validate(
    key: ProgramKey, form: DataForm, data: DataTensors, plan: EpochPlan, constants: Constants, stacks: Stacks
) -> list[Any]:
    """Return each lane's metrics of the validation split, which is predicted in batches of a bounded size."""
    size = plan.validation_rows
    n_examples, n_lanes = tf.shape(data.validation_labels)[0], constants.counts[0]

    def batch(index: Any, n_correct: Any, loss_sum: Any, *counts: Any) -> tuple[Any, ...]:
        # The last batch moves back to be of the same size; the examples it repeats then count for nothing.
        start = tf.minimum(index * size, n_examples - size)
        rows = tf.slice(data.validation_features, [start, 0], [size, data.train_features.shape[1]])
        labels = tf.slice(data.validation_labels, [start], [size])
        features = normalized(rows, mean=data.mean, scale=data.scale, dtype=key.dtype)
        logits = predict(key, constants, stacks, features)
        losses, correct, _ = judge(logits, tf.tile(labels[None], [n_lanes, 1]))
        new = start + tf.range(size) >= index * size
        # Not a product: a repeated example's infinite loss times 0 would be NaN.
        n_correct += tf.reduce_sum(tf.where(new, correct, tf.zeros_like(correct)), axis=1)
        loss_sum += tf.reduce_sum(tf.where(new, losses, tf.zeros_like(losses)), axis=1)
        counts = tuple(before + counts_by_class(logits, labels, tf.cast(new, key.dtype)) for before in counts)
        return index + 1, n_correct, loss_sum, *counts

    zeros = tf.zeros_like(plan.momentum)
    counts = [tf.zeros([2, n_lanes, stacks.weights[key.depth].shape[-1]], key.dtype)] if form.by_class else []
    _, n_correct, loss_sum, *counts = tf.while_loop(
        lambda index, *_: index * size < n_examples,
        batch,
        [tf.constant(0), zeros, zeros, *counts],
        shape_invariants=[
            tf.TensorShape([]),
            zeros.shape,
            zeros.shape,
            *(tf.TensorShape([2, None, part.shape[-1]]) for part in counts),
        ],
        parallel_iterations=1,
    )
    n_rows = tf.cast(n_examples, key.dtype)
    by_class = class_metrics(counts[0], data.validation_labels) if counts else ()
    return [n_correct / n_rows, loss_sum / n_rows, *by_class]
