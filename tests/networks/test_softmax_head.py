from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from caviar.config import NetworkConfig
from caviar.errors import SpecError
from caviar.networks import build_network, check_probabilities, find_output, with_probabilities

SAMPLE = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self, activation: str | None) -> None:
        super().__init__()
        self.head = keras.layers.Dense(3, activation=activation)

    def call(self, inputs: Any) -> Any:
        return self.head(inputs)


def network() -> Any:
    return build_network(NetworkConfig(units=4), feature_shape=(4,), n_classes=3, normalization=None, seed=0)


def sequential(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), *layers])


def test_exported_form_gives_the_softmax_of_the_logits() -> None:
    model = network()
    logits = np.asarray(model(SAMPLE), np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(with_probabilities(model)(SAMPLE)), expected, rtol=1e-5)


def test_exported_form_shares_the_weights() -> None:
    model = network()
    exported = with_probabilities(model)
    model.get_layer("logits").kernel.assign(np.zeros((4, 3)))
    np.testing.assert_allclose(np.asarray(exported(SAMPLE)), 1 / 3, rtol=1e-6)


# Keras 3.15 saves its variables by np.array, whose new copy keyword they do not know.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_exported_form_is_saved_and_loaded_by_keras_alone(tmp_path: Path) -> None:
    normalization = (SAMPLE.mean(axis=0), SAMPLE.var(axis=0))
    config = NetworkConfig(depth=2, units=4, batch_norm="before_activation", dropout=0.2, l2=0.1)
    model = build_network(config, feature_shape=(4,), n_classes=3, normalization=normalization, seed=0)
    exported = with_probabilities(model)
    exported.save(tmp_path / "champion.keras")
    loaded = keras.models.load_model(tmp_path / "champion.keras", compile=False)
    np.testing.assert_array_equal(np.asarray(loaded(SAMPLE)), np.asarray(exported(SAMPLE)))


def test_network_that_ends_in_softmax_is_exported_as_it_is() -> None:
    model = sequential(keras.layers.Dense(3, activation="softmax"))
    assert with_probabilities(model) is model


def test_subclassed_network_is_exported_where_its_input_is_known() -> None:
    model = Subclassed(None)
    logits = np.asarray(model(SAMPLE), np.float64)
    with pytest.raises(ValueError, match="feature_shape of the subclassed Subclassed"):
        with_probabilities(model)
    exported = np.asarray(with_probabilities(model, feature_shape=(4,))(SAMPLE))
    np.testing.assert_allclose(exported, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-5)


def functional(end: Callable[[Any], Any]) -> Any:
    inputs = keras.Input((4,))
    return keras.Model(inputs, end(keras.layers.Dense(8, activation="relu")(inputs)))


def dense(activation: Any = None, **options: Any) -> Any:
    return keras.layers.Dense(3, activation=activation, **options)


def average_of_softmaxes(x: Any) -> Any:
    return keras.layers.Average()([dense("softmax")(x), dense("softmax")(x)])


PROBABILITIES: dict[str, Callable[[Any], Any]] = {
    "activation": dense("softmax"),
    "layer": lambda x: keras.layers.Softmax()(dense()(x)),
    "activation layer": lambda x: keras.layers.Activation("softmax")(dense()(x)),
    "before dropout": lambda x: keras.layers.Dropout(0.5)(dense("softmax")(x)),
    "operation as activation": dense(keras.ops.softmax),
    "operation": lambda x: keras.ops.softmax(dense()(x)),
    "nested": keras.Sequential([dense("softmax")]),
    "before flatten": lambda x: keras.layers.Flatten()(dense("softmax")(x)),
    "average": average_of_softmaxes,
    "subclassed": lambda x: Subclassed("softmax")(x),
    "begun at 0": dense("softmax", kernel_initializer="zeros"),
}
LOGITS: dict[str, Callable[[Any], Any]] = {
    "dense": dense(),
    "dropout": lambda x: keras.layers.Dropout(0.5)(dense()(x)),
    "called probabilities": dense(name="probabilities"),
    "subclassed": lambda x: Subclassed(None)(x),
    "logarithms": dense("log_softmax"),
    "begun at 0": dense(kernel_initializer="zeros"),
    "begun at a third": dense(kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(1 / 3)),
}


@pytest.mark.parametrize("end", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_recognised_by_what_the_network_gives(end: Any) -> None:
    model = functional(end)
    assert find_output(model, SAMPLE) == "probabilities"
    assert with_probabilities(model) is model
    check_probabilities(model, SAMPLE)


@pytest.mark.parametrize("end", LOGITS.values(), ids=LOGITS)
def test_logits_are_recognised_by_what_the_network_gives(end: Any) -> None:
    model = functional(end)
    assert find_output(model, SAMPLE) == "logits"
    exported = np.asarray(with_probabilities(model)(SAMPLE))
    np.testing.assert_allclose(exported, np.asarray(keras.ops.softmax(model(SAMPLE))), rtol=1e-5)
    if np.ptp(model(SAMPLE)) > 0:
        with pytest.raises(SpecError, match="set to probabilities"):
            check_probabilities(model, SAMPLE)


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "softplus", "exponential"])
def test_neither_logits_nor_probabilities_are_refused_and_the_weights_left_alone(activation: Any) -> None:
    model = functional(dense(activation))
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(SpecError, match=r'neither logits nor probabilities.*objective.output = "logits"'):
        find_output(model, SAMPLE)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_logits_that_happen_to_be_positive_are_not_refused() -> None:
    brightness = np.random.default_rng(0).uniform(100, 255, (16, 4)).astype(np.float32)
    for seed in range(40):
        head = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed))
        assert find_output(keras.Sequential([keras.Input((4,)), head]), brightness) == "logits"
