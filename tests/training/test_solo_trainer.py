import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.config import CHOICES, NetworkConfig, TrainingConfig
from caviar.errors import SpecError
from caviar.networks import build_network, fit_normalization
from caviar.training import SoloTrainer, TensorSplits
from caviar.training.epoch import example_losses
from caviar.training.randomness import dropout_column_keys, dropout_row_keys, epoch_order, keep_scale

N_CLASSES = 3


def make_splits(
    shape: tuple[int, ...] = (4, 3, 1), *, n_train: int = 70, n_validation: int = 30, dtype: Any = np.uint8
) -> TensorSplits:
    rng = np.random.default_rng(0)
    n = n_train + n_validation
    labels = rng.integers(0, N_CLASSES, n).astype(np.int32)
    means = 5 + 3 * labels.reshape(n, *(1 for _ in shape))
    features = np.clip(rng.normal(means, 3, (n, *shape)), 0, 16).astype(dtype)
    return TensorSplits(
        train_features=tf.constant(features[:n_train]),
        train_labels=tf.constant(labels[:n_train]),
        validation_features=tf.constant(features[n_train:]),
        validation_labels=tf.constant(labels[n_train:]),
        n_classes=N_CLASSES,
    )


DATA = make_splits()


def network(config: NetworkConfig, data: TensorSplits = DATA, *, seed: int = 0) -> Any:
    return build_network(
        config,
        feature_shape=data.feature_shape,
        n_classes=data.n_classes,
        normalization=fit_normalization(data.train_features.numpy()),
        seed=seed,
    )


@contextlib.contextmanager
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


def keras_optimizer(training: TrainingConfig, n_steps: int) -> Any:
    rate: Any = training.learning_rate
    schedules = keras.optimizers.schedules
    if training.decay == "exponential":
        rate = schedules.ExponentialDecay(rate, n_steps, 1 - training.decay_rate)
    elif training.decay == "inverse_time":
        rate = schedules.InverseTimeDecay(rate, n_steps, training.decay_rate)
    elif training.decay == "cosine":
        rate = schedules.CosineDecay(rate, n_steps * training.epochs)
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_1=training.momentum)
    if training.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, momentum=training.momentum)
    return keras.optimizers.SGD(rate, momentum=training.momentum)


def train_by_keras(model: Any, data: TensorSplits, training: TrainingConfig, *, from_logits: bool = True) -> float:
    """Train one epoch with Keras' own optimizer, losses and layers, eagerly; return the mean loss of its steps."""
    size = min(training.batch_size, data.n_train)
    n_steps = data.n_train // size
    optimizer = keras_optimizer(training, n_steps)
    order = epoch_order(0, epoch=0, n_examples=data.n_train)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    losses = []
    for step in range(n_steps):
        rows = order[step * size : (step + 1) * size]
        features = tf.cast(tf.gather(data.train_features, rows), keras.config.floatx())
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.gather(data.train_labels, rows), model(features, training=True))
            total = loss + sum(model.losses)
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(total, [weight.value for weight in weights]), weights)
        losses.append(float(loss))
    return float(np.mean(losses))


def distance(first: Any, second: Any) -> float:
    """Return the greatest difference of two models' weights, relative to the greatest weight."""
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return float(max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(b).max() for _, b in pairs))


@pytest.mark.slow
@given(
    network_config=st.builds(
        NetworkConfig,
        depth=st.just(2),
        units=st.sampled_from([4, 7]),
        activation=st.sampled_from(CHOICES["activation"]),
        batch_norm=st.sampled_from(CHOICES["batch_norm"]),
        l2=st.sampled_from([0.0, 0.01]),
    ),
    training=st.builds(
        TrainingConfig,
        epochs=st.just(3),
        batch_size=st.sampled_from([16, 33]),
        optimizer=st.sampled_from(CHOICES["optimizer"]),
        learning_rate=st.sampled_from([0.01, 0.001]),
        momentum=st.sampled_from([0.0, 0.9]),
        decay=st.sampled_from(CHOICES["decay"]),
        decay_rate=st.just(0.5),
    ),
)
@settings(deadline=None, max_examples=10, derandomize=True)
def test_epoch_gives_the_weights_that_keras_gives(network_config: NetworkConfig, training: TrainingConfig) -> None:
    with float64():
        ours, theirs = network(network_config), network(network_config)
        with SoloTrainer(ours, DATA, training, seed=0) as trainer:
            loss = trainer.run_epoch()[0]["loss"]
        assert loss == pytest.approx(train_by_keras(theirs, DATA, training), rel=1e-5)
        # Keras holds learning rates, schedules and Adam's betas in float32, whatever the weights' type.
        assert distance(ours, theirs) < 1e-5


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(6, activation="relu", kernel_regularizer="l2")
        self.dropout = keras.layers.Dropout(0.3, seed=1)
        self.head = keras.layers.Dense(N_CLASSES)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.head(self.dropout(self.hidden(self.flatten(inputs)), training=training))


def functional(*layers: Any) -> Any:
    inputs = x = keras.Input(DATA.feature_shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def convolutional() -> Any:
    return keras.Sequential(
        [
            keras.layers.Rescaling(1 / 16),
            keras.layers.Conv2D(4, 2, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-3)),
            keras.layers.Dropout(0.2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(N_CLASSES),
        ]
    )


def softmax_headed() -> Any:
    return functional(keras.layers.Flatten(), keras.layers.Dense(N_CLASSES, activation="softmax"))


def nested() -> Any:
    inner = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.5)])
    return functional(keras.layers.Flatten(), inner, keras.layers.Dense(N_CLASSES))


def branched() -> Any:
    inputs = keras.Input(DATA.feature_shape)
    flat = keras.layers.Flatten()(inputs) / 16.0
    left = keras.layers.Dropout(0.2)(keras.layers.Dense(5, activation="tanh")(flat))
    right = keras.layers.GaussianNoise(0.1, seed=0)(keras.layers.Dense(5)(flat))
    return keras.Model(inputs, keras.layers.Dense(N_CLASSES)(keras.ops.concatenate([left * right, flat], axis=-1)))


@pytest.mark.parametrize("make_model", [Subclassed, convolutional, softmax_headed, nested, branched])
def test_model_of_the_user_s_own_learns(make_model: Any) -> None:
    keras.utils.set_random_seed(0)
    model = make_model()
    training = TrainingConfig(batch_size=16, optimizer="adam", learning_rate=0.02)
    with SoloTrainer(model, DATA, training, seed=0) as trainer:
        curve = [trainer.run_epoch()[0] for _ in range(6)]
        assert trainer.lane_model(0) is model
    assert curve[-1]["loss"] < curve[0]["loss"]
    predicted = np.asarray(model(DATA.validation_features)).argmax(axis=1)
    assert curve[-1]["val_accuracy"] == pytest.approx((predicted == DATA.validation_labels.numpy()).mean())


def test_softmax_head_trains_as_keras_trains_it() -> None:
    keras.utils.set_random_seed(0)
    ours, theirs = softmax_headed(), softmax_headed()
    theirs.set_weights(ours.get_weights())
    training = TrainingConfig(batch_size=16, learning_rate=0.001)
    with SoloTrainer(ours, DATA, training, seed=0) as trainer:
        loss = trainer.run_epoch()[0]["loss"]
    assert loss == pytest.approx(train_by_keras(theirs, DATA, training, from_logits=False), rel=1e-4)
    assert distance(ours, theirs) < 1e-4


class Penalised(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    def call(self, inputs: Any) -> Any:
        self.add_loss(0.01 * keras.ops.mean(inputs**2))
        return inputs


def penalised() -> Any:
    return functional(
        keras.layers.Flatten(),
        keras.layers.Rescaling(1 / 16),
        keras.layers.Dense(5, kernel_regularizer="l1", bias_regularizer=keras.regularizers.L2(0.1)),
        Penalised(),
        keras.layers.Dense(N_CLASSES, kernel_regularizer=keras.regularizers.L2(0.05), activity_regularizer="l2"),
        keras.layers.Dropout(0.0),
    )


def test_penalties_of_the_user_s_own_act_as_in_keras() -> None:
    keras.utils.set_random_seed(0)
    ours, theirs = penalised(), penalised()
    theirs.set_weights(ours.get_weights())
    training = TrainingConfig(batch_size=16, learning_rate=0.1)
    with SoloTrainer(ours, DATA, training, seed=0) as trainer:
        trainer.run_epoch()
    train_by_keras(theirs, DATA, training)
    assert distance(ours, theirs) < 1e-5
    assert ours.layers[3].bias_regularizer is ours.layers[3].bias.regularizer


def test_constraint_holds_after_training() -> None:
    model = functional(
        keras.layers.Flatten(), keras.layers.Dense(N_CLASSES, kernel_constraint=keras.constraints.UnitNorm())
    )
    with SoloTrainer(model, DATA, TrainingConfig(batch_size=16), seed=0) as trainer:
        trainer.run_epoch()
    np.testing.assert_allclose(np.linalg.norm(model.layers[-1].kernel.numpy(), axis=0), 1, rtol=1e-5)


def test_frozen_layer_stays_and_embedding_trains() -> None:
    data = make_splits((4,), dtype=np.uint8)
    inputs = keras.Input((4,), dtype="int32")
    frozen = keras.layers.Dense(5, trainable=False)
    x = keras.layers.Embedding(17, 3)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(N_CLASSES)(frozen(keras.layers.Flatten()(x))))
    before = [weight.copy() for weight in model.get_weights()]
    with SoloTrainer(model, data, TrainingConfig(batch_size=16, learning_rate=0.1), seed=0) as trainer:
        trainer.run_epoch()
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0])
    changed = {
        weight.path: not np.array_equal(weight.numpy(), old) for weight, old in zip(model.weights, before, strict=True)
    }
    assert not any(value for path, value in changed.items() if path.startswith(frozen.name))


class Counting(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Counts how often Python runs it: in a compiled epoch, once a trace for training and once for validation."""

    calls = 0

    def call(self, inputs: Any) -> Any:
        self.calls += 1
        return inputs


def counting() -> tuple[Any, Counting]:
    keras.utils.set_random_seed(0)
    layer = Counting()
    hidden = keras.layers.Dense(6, activation="relu")
    model = functional(keras.layers.Flatten(), hidden, keras.layers.Dropout(0.1), keras.layers.Dense(N_CLASSES), layer)
    return model, layer


def test_continuous_hyperparameters_change_without_a_new_trace() -> None:
    model, layer = counting()
    training = TrainingConfig(batch_size=16, decay="inverse_time")
    changes = {"learning_rate": 0.3, "momentum": 0.2, "decay_rate": 0.9, "dropout": 0.4, "l2": 0.1}
    with SoloTrainer(model, DATA, training, seed=0) as trainer:
        before = layer.calls
        trainer.run_epoch()
        for name, value in changes.items():
            trainer.set_hyperparameter(0, name, value)  # type: ignore[arg-type]
            trainer.run_epoch()
        trainer.load_lane_state(0, trainer.lane_state(0))
        trainer.run_epoch()
    assert layer.calls == before + 2


def test_dropout_and_l2_cannot_be_set_where_nothing_takes_them() -> None:
    with SoloTrainer(Subclassed(), DATA, TrainingConfig(), seed=0) as trainer:
        trainer.set_hyperparameter(0, "l2", 0.1)
        with pytest.raises(SpecError, match="no plain Dropout layer in a functional model"):
            trainer.set_hyperparameter(0, "dropout", 0.1)
    only_scales = functional(keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dense(N_CLASSES))
    only_scales.layers[-1].trainable = False
    with (
        SoloTrainer(only_scales, DATA, TrainingConfig(), seed=0) as trainer,
        pytest.raises(SpecError, match="no kernel for it"),
    ):
        trainer.set_hyperparameter(0, "l2", 0.1)


def test_dropout_layers_draw_the_documented_masks() -> None:
    """At a learning rate of almost 0, the loss in training is that of the masked features, computed in numpy."""
    data = make_splits((N_CLASSES,), dtype=np.float32)
    model = keras.Sequential(
        [
            keras.Input((N_CLASSES,)),
            keras.layers.Dropout(0.2),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(N_CLASSES, kernel_initializer="identity", use_bias=False),
        ]
    )
    n = data.n_train
    with SoloTrainer(model, data, TrainingConfig(batch_size=n, learning_rate=1e-30), seed=7) as trainer:
        loss = trainer.run_epoch()[0]["loss"]
    order, row_keys = epoch_order(7, epoch=0, n_examples=n), dropout_row_keys(7, epoch=0, n_rows=n)
    logits = data.train_features.numpy()[order]
    for layer, rate in enumerate((0.2, 0.5)):
        logits = logits * keep_scale(row_keys, dropout_column_keys(layer, N_CLASSES), tf.fill([N_CLASSES], rate))
    losses = example_losses(tf.constant(logits), tf.gather(data.train_labels, order), from_logits=True)
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-5)


def test_validation_in_several_batches_counts_each_example_once() -> None:
    data = make_splits(n_validation=2345)
    model = network(NetworkConfig(depth=1, units=6), data)
    with SoloTrainer(model, data, TrainingConfig(), seed=0) as trainer:
        metrics = trainer.run_epoch()[0]
    logits, labels = model(data.validation_features), data.validation_labels.numpy()
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert metrics["val_loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx((np.asarray(logits).argmax(axis=1) == labels).mean())


def test_left_over_examples_are_others_in_the_next_epoch() -> None:
    left_over = [set(epoch_order(0, epoch=epoch, n_examples=70)[64:]) for epoch in range(2)]
    assert left_over[0] != left_over[1]


@pytest.mark.slow
def test_xla_gives_the_same_curve() -> None:
    config = NetworkConfig(depth=2, units=6, batch_norm="before_activation", dropout=0.3, l2=1e-3)
    training = TrainingConfig(batch_size=16, optimizer="adam", learning_rate=0.01, decay="cosine")
    curves = []
    for jit_compile in (False, True):
        with SoloTrainer(network(config), DATA, training, seed=0, jit_compile=jit_compile) as trainer:
            curves.append([trainer.run_epoch()[0] for _ in range(2)])
    for plain, compiled in zip(*curves, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)


def test_outputs_that_do_not_fit_the_classes_are_refused() -> None:
    model = functional(keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid"))
    with pytest.raises(SpecError, match=r"must give 3 values an example.*End it with Dense\(3\)"):
        SoloTrainer(model, DATA, TrainingConfig(), seed=0)


def test_two_outputs_are_refused() -> None:
    inputs = keras.Input(DATA.feature_shape)
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)])
    with pytest.raises(SpecError, match="1 input and 1 output, but has 1 and 2"):
        SoloTrainer(model, DATA, TrainingConfig(), seed=0)


class GivesDict(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.head = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(N_CLASSES)])

    def call(self, inputs: Any) -> Any:
        return {"a": self.head(inputs)}


def gives_dict() -> Any:
    inputs = keras.Input(DATA.feature_shape)
    return keras.Model(inputs, {"a": keras.layers.Dense(N_CLASSES)(keras.layers.Flatten()(inputs))})


@pytest.mark.parametrize("make_model", [GivesDict, gives_dict])
def test_a_dict_of_outputs_is_refused(make_model: Any) -> None:
    with pytest.raises(SpecError, match=r"must give 1 tensor, but gives a dict \('a'\)"):
        SoloTrainer(make_model(), DATA, TrainingConfig(), seed=0)


@pytest.mark.parametrize(("value", "kind"), [(None, "None"), (3, "of type int"), (keras.layers.Dense(3), "type Dense")])
def test_what_is_no_network_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(SpecError, match=f"must be a keras.Model, but it is .*{kind}. Return one from your function"):
        SoloTrainer(value, DATA, TrainingConfig(), seed=0)


def test_an_output_that_is_said_to_be_otherwise_is_believed_or_refused() -> None:
    training = TrainingConfig(batch_size=16)
    with SoloTrainer(softmax_headed(), DATA, training, seed=0) as trainer:
        assert trainer.output == "probabilities"
    with SoloTrainer(softmax_headed(), DATA, training, seed=0, output="logits") as trainer:
        assert trainer.output == "logits"
    with pytest.raises(SpecError, match="set to probabilities, but for one example"):
        SoloTrainer(network(NetworkConfig()), DATA, training, seed=0, output="probabilities")


def test_an_epoch_is_a_program_even_where_the_process_runs_functions_eagerly() -> None:
    curves = []
    for eagerly in (False, True):
        tf.config.run_functions_eagerly(eagerly)
        try:
            model, layer = counting()
            with SoloTrainer(model, DATA, TrainingConfig(batch_size=16), seed=0) as trainer:
                before = layer.calls
                curves.append([trainer.run_epoch() for _ in range(2)])
            assert layer.calls == before + 2
        finally:
            tf.config.run_functions_eagerly(False)
    assert curves[0] == curves[1]


def test_model_without_anything_to_train_is_refused() -> None:
    model = network(NetworkConfig())
    model.trainable = False
    with pytest.raises(SpecError, match="no trainable variable"):
        SoloTrainer(model, DATA, TrainingConfig(), seed=0)


def test_graph_rewriting_is_as_it_was_after_an_epoch() -> None:
    before = tf.config.optimizer.get_experimental_options()
    with SoloTrainer(network(NetworkConfig()), DATA, TrainingConfig(), seed=0) as trainer:
        trainer.run_epoch()
    after = tf.config.optimizer.get_experimental_options()
    assert after.get("disable_meta_optimizer", False) == before.get("disable_meta_optimizer", False)


def test_dropout_passes_masks_on_and_is_the_user_s_own_layer_again_after_an_epoch() -> None:
    def make() -> Any:
        inputs = keras.Input((4,), dtype="int32")
        x = keras.layers.Dropout(0.0)(keras.layers.Embedding(17, 3, mask_zero=True)(inputs))
        return keras.Model(inputs, keras.layers.Dense(N_CLASSES)(keras.layers.GlobalAveragePooling1D()(x)))

    data, training = make_splits((4,)), TrainingConfig(batch_size=16, learning_rate=0.1)
    assert (data.train_features.numpy() == 0).any()  # these examples are masked in part
    ours, theirs = make(), make()
    theirs.set_weights(ours.get_weights())
    with SoloTrainer(ours, data, training, seed=0) as trainer:
        trainer.run_epoch()
    train_by_keras(theirs, data, training)
    assert distance(ours, theirs) < 1e-5
    assert not any("call" in vars(layer) for layer in ours.layers)


def test_closed_trainer_frees_the_model() -> None:
    model = network(NetworkConfig(depth=2, units=4, batch_norm="before_activation"))
    trainer = SoloTrainer(model, DATA, TrainingConfig(), seed=0)
    trainer.run_epoch()
    weight = weakref.ref(model.trainable_variables[0].value)
    freed = weakref.ref(model)
    trainer.close()
    del model
    gc.collect()
    assert freed() is None
    assert weight() is None
