from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from caviar.config import NetworkConfig
from caviar.networks import build_network, gives_probabilities, with_probabilities

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


def test_subclassed_network_cannot_be_exported() -> None:
    model = Subclassed(None)
    model(SAMPLE)
    with pytest.raises(ValueError, match="subclassed Subclassed"):
        with_probabilities(model)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([keras.layers.Dense(3)], False),
        ([keras.layers.Dense(3, activation="softmax")], True),
        ([keras.layers.Dense(3), keras.layers.Softmax()], True),
        ([keras.layers.Dense(3), keras.layers.Activation("softmax")], True),
        ([keras.layers.Dense(3), keras.layers.Dropout(0.5)], False),
        ([keras.layers.Dense(3, activation="softmax"), keras.layers.Dropout(0.5)], True),
    ],
)
def test_end_of_a_sequential_network_is_recognised(layers: Any, expected: Any) -> None:
    assert gives_probabilities(sequential(*layers), SAMPLE) is expected


@pytest.mark.parametrize(("activation", "expected"), [(None, False), ("softmax", True), ("sigmoid", False)])
def test_end_of_a_subclassed_network_is_recognised_by_its_outputs(activation: Any, expected: Any) -> None:
    assert gives_probabilities(Subclassed(activation), SAMPLE) is expected
