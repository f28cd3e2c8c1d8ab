"""The trainer of one network: any Keras model, the user's own included."""

import contextlib
from collections.abc import Collection, Mapping
from typing import Any, final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..config import TrainingConfig
from ..errors import SpecError
from ..interventions import LiveHyperparameter
from ..networks import Output, check_probabilities, find_output
from .epoch import EpochParts, trace_epoch
from .forward import find_dropouts, find_kernels, input_type
from .randomness import dropout_row_keys, epoch_order, seeded_libraries
from .tensorflow_private import without_graph_rewriting
from .tensors import TensorSplits
from .trainer import LaneState, Metrics, Trainer, check_hyperparameter, check_state, named_metrics
from .update_rules import SLOTS


@final
class SoloTrainer(Trainer):
    """Trains one Keras model in place, an epoch a call, in one compiled program.

    The model may be functional, sequential or subclassed, and may output logits or probabilities. In training its
    layers do what they do under ``model.fit``, and its penalties (regularizers, add_loss) and constraints count. What
    it was compiled with does not count, nor does a train_step of its own. Two things differ: plain Dropout layers draw
    masks that depend on ``seed`` alone, and you can change their rates, and the factor of L2 regularizers, while the
    model trains. In a subclassed model Dropout stays as it is. Other random layers follow their own seeds.

    Args:
        model: A keras.Model with one input and one output of n_classes values. It is trained in place.
        data: The splits, shared by all trainers of the process.
        training: Update rule, batch size, decay, and the first values of the hyperparameters.
        seed: At least 0; decides the order of the examples, the dropout masks, and what random operations without a
            seed draw. The model brings its initial weights and the seeds of its layers.
        output: What the model outputs; None to find out by running it.
        jit_compile: Compile by XLA: steps take less than half the time, the first call about a second more. It pays off
            from about 5,000 steps of a small network.

    Raises:
        SpecError: If the model does not have one input and one output of n_classes values, if these are neither logits
            nor probabilities, or if it has nothing to train.

    Example:
        >>> trainer = SoloTrainer(model, splits, TrainingConfig(), seed=0)  # doctest: +SKIP
        >>> trainer.run_epoch()  # doctest: +SKIP
        [{'accuracy': 0.31, 'loss': 2.14, 'val_accuracy': 0.72, 'val_loss': 0.98}]
    """

    def __init__(
        self,
        model: Any,
        data: TensorSplits,
        training: TrainingConfig,
        *,
        seed: int,
        output: Output | None = None,
        jit_compile: bool = False,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed must be at least 0, but got {seed}.")
        self._parts: EpochParts | None = _make_parts(model, data, training, output)
        self._jit_compile = jit_compile
        self._program: Any = None
        self._seed = seed
        self._epoch = 0

    @property
    def n_lanes(self) -> int:
        """1, or 0 once the lane is dropped."""
        return 0 if self._parts is None else 1

    @property
    def output(self) -> Output:
        """What the model outputs; see `Trainer.output`."""
        return "logits" if self._lane(0).from_logits else "probabilities"

    @property
    def input_type(self) -> str:
        """The type that examples are cast to before the model takes them."""
        return str(input_type(self._lane(0).model).name)

    def run_epoch(self) -> list[Metrics]:
        """Train for one epoch; see `Trainer.run_epoch`."""
        if self._parts is None:
            return []
        parts = self._parts
        order = epoch_order(self._seed, epoch=self._epoch, n_examples=parts.data.n_train)[: parts.n_rows]
        row_keys = dropout_row_keys(self._seed, epoch=self._epoch, n_rows=parts.n_keys)
        # Dense networks' steps are no faster for graph rewriting; convolutional ones' are, by a tenth, which pays from
        # some 150 steps.
        has_convolutions = any(len(weight.shape) > 2 for weight in parts.weights)
        with contextlib.nullcontext() if has_convolutions else without_graph_rewriting():
            if self._program is None:
                # The traced function itself, because a process may tell TensorFlow to run its tf.functions untraced.
                with seeded_libraries(self._seed):
                    self._program = trace_epoch(parts, jit_compile=self._jit_compile)
            epoch = tf.constant(self._epoch, tf.float64)
            values = self._program(tf.constant(order), tf.constant(row_keys), epoch).numpy()
        self._epoch += 1
        return [named_metrics(values.tolist())]

    def set_hyperparameter(self, lane: int, name: LiveHyperparameter, value: float) -> None:
        """Change a hyperparameter from the next epoch on; see `Trainer.set_hyperparameter`."""
        parts = self._lane(lane)
        check_hyperparameter(parts.training, name, value)
        variable = parts.live[name]
        if variable.shape.num_elements() == 0:
            missing = {"dropout": "plain Dropout layer in a functional model", "l2": "kernel"}[name]
            raise SpecError(f"{name} cannot be set to {value}: the model has no {missing} for it to act on.")
        variable.assign(tf.fill(variable.shape, tf.constant(value, tf.float64)))

    def drop_lanes(self, lanes: Collection[int]) -> None:
        """End the lane, if the collection names it; see `Trainer.drop_lanes`."""
        for lane in lanes:
            self._lane(lane)
        if lanes:
            self.close()

    def lane_state(self, lane: int) -> LaneState:
        """Return a copy of the lane's state; see `Trainer.lane_state`."""
        variables = _state_variables(self._lane(lane))
        return {
            "epoch": np.array(self._epoch, np.int64),
            "seed": np.array(self._seed, np.uint64),
            **{key: variable.numpy() for key, variable in variables.items()},
        }

    def load_lane_state(self, lane: int, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from a state; see `Trainer.load_lane_state`."""
        variables = _state_variables(self._lane(lane))
        check_state(state, {key: tuple(variable.shape) for key, variable in variables.items()})
        for key, variable in variables.items():
            variable.assign(state[key])
        self._epoch = int(state["epoch"])
        self._seed = int(state["seed"])

    def lane_model(self, lane: int) -> Any:
        """Return the model itself, which the next epoch trains further; see `Trainer.lane_model`."""
        return self._lane(lane).model

    def close(self) -> None:
        """End the lane and release the model and its program; see `Trainer.close`."""
        self._parts = self._program = None

    def _lane(self, lane: int) -> EpochParts:
        if self._parts is None or lane != 0:
            raise IndexError(f"There is no lane {lane}: a solo trainer has lane 0, until it is dropped.")
        return self._parts


def _make_parts(model: Any, data: TensorSplits, training: TrainingConfig, output: Output | None) -> EpochParts:
    sample = tf.cast(data.train_features[:8], input_type(model)).numpy()
    _check_model(model, sample, n_classes=data.n_classes)
    if output == "probabilities":
        check_probabilities(model, sample)
    output = output or find_output(model, sample)
    weights = list(model.trainable_variables)
    if not weights:
        raise SpecError("The model has no trainable variable. Set trainable = True on a layer.")
    dropouts, kernels = find_dropouts(model), find_kernels(weights)
    live = {
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
        "decay_rate": training.decay_rate,
        "dropout": [layer.rate for layer in dropouts],
        "l2": list(kernels.values()),
    }
    return EpochParts(
        model=model,
        weights=weights,
        data=data,
        training=training,
        live={name: tf.Variable(value, dtype=tf.float64, trainable=False) for name, value in live.items()},
        slots=[
            [tf.Variable(tf.zeros_like(weight.value), trainable=False) for _ in SLOTS[training.optimizer]]
            for weight in weights
        ],
        dropouts=dropouts,
        kernels=list(kernels),
        from_logits=output == "logits",
    )


def _check_model(model: Any, sample: Any, *, n_classes: int) -> None:
    """Build the model if it is not built, and raise SpecError if its inputs or outputs do not fit."""
    if not isinstance(model, keras.Model):
        kind = "None" if model is None else f"of type {type(model).__name__}"
        raise SpecError(f"The network must be a keras.Model, but it is {kind}. Return one from your function.")
    if not model.built:
        model(sample, training=False)
    inputs, outputs = (getattr(model, name, None) or [None] for name in ("inputs", "outputs"))
    if len(inputs) != 1 or len(outputs) != 1:
        raise SpecError(f"The model must have 1 input and 1 output, but has {len(inputs)} and {len(outputs)}.")
    given = model(sample, training=False)
    if not keras.ops.is_tensor(given):
        keys = f" ({', '.join(map(repr, given))})" if isinstance(given, Mapping) else ""
        raise SpecError(
            f"The model must give 1 tensor, but gives a {type(given).__name__}{keys}. Return only the values of the "
            "classes, as keras.Model(inputs, outputs) does."
        )
    shape = (None, *given.shape[1:])
    if shape != (None, n_classes):
        raise SpecError(
            f"The model must give {n_classes} values an example, one a class, but its output has the shape {shape}. "
            f"End it with Dense({n_classes})."
        )


def _state_variables(parts: EpochParts) -> dict[str, Any]:
    variables = {f"hyperparameter.{name}": variable for name, variable in parts.live.items()}
    variables |= {f"variable.{i}": variable.value for i, variable in enumerate(parts.model.variables)}
    names = SLOTS[parts.training.optimizer]
    for i, slots in enumerate(parts.slots):
        variables |= {f"slot.{name}.{i}": slot for name, slot in zip(names, slots, strict=True)}
    return variables
