from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from caviar.config import Activation, BatchNorm, NetworkConfig
from caviar.networks import build_network, fit_normalization


def weights_of(model: Any, name: Any) -> Any:
    return [np.asarray(value) for value in model.get_layer(name).get_weights()]


def build(config: Any = None, *, seed: Any = 0, feature_shape: Any = (5,), normalization: Any = None) -> Any:
    return build_network(
        config or NetworkConfig(units=4),
        feature_shape=feature_shape,
        n_classes=3,
        normalization=normalization,
        seed=seed,
    )


def layer_names(model: Any) -> Any:
    return [layer.name for layer in model.layers]


def test_batch_norm_before_activation_stands_between_dense_and_activation() -> None:
    names = layer_names(build(NetworkConfig(depth=1, units=4, batch_norm="before_activation")))
    assert names == ["features", "hidden_1", "batch_norm_1", "activation_1", "dropout_1", "logits"]


def test_batch_norm_after_activation_stands_behind_it() -> None:
    names = layer_names(build(NetworkConfig(depth=1, units=4, batch_norm="after_activation")))
    assert names == ["features", "hidden_1", "activation_1", "batch_norm_1", "dropout_1", "logits"]


@pytest.mark.parametrize(
    ("placement", "has_bias"), [("none", True), ("before_activation", False), ("after_activation", True)]
)
def test_dense_has_no_bias_where_batch_norm_follows_directly(placement: BatchNorm, has_bias: bool) -> None:
    model = build(NetworkConfig(depth=2, units=4, batch_norm=placement))
    assert model.get_layer("hidden_1").use_bias is has_bias
    assert model.get_layer("hidden_2").use_bias is has_bias
    assert model.get_layer("logits").use_bias


def test_widths_follow_the_config_layer_by_layer() -> None:
    model = build(NetworkConfig(depth=3, units=(7, 5, 3)))
    assert [model.get_layer(f"hidden_{k}").units for k in (1, 2, 3)] == [7, 5, 3]


def test_batch_norm_takes_its_momentum_from_the_config_and_epsilon_from_keras() -> None:
    layer = build(NetworkConfig(depth=1, batch_norm="before_activation", batch_norm_momentum=0.7)).get_layer(
        "batch_norm_1"
    )
    assert layer.momentum == 0.7
    assert layer.epsilon == keras.layers.BatchNormalization().epsilon == 1e-3


def test_l2_penalises_the_kernels_of_hidden_layers_and_head_alone() -> None:
    model = build(NetworkConfig(depth=2, units=4, batch_norm="after_activation", l2=0.01))
    kernels = [np.asarray(model.get_layer(name).kernel) for name in ("hidden_1", "hidden_2", "logits")]
    expected = 0.01 * sum(np.square(kernel).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second, other = build(seed=3), build(seed=3), build(seed=4)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(weights_of(first, "hidden_1")[0], weights_of(other, "hidden_1")[0])


def test_weights_do_not_depend_on_keras_global_seed() -> None:
    keras.utils.set_random_seed(1)
    first = build().get_weights()
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(first[0], build().get_weights()[0])


def test_layers_draw_from_seeds_of_their_own() -> None:
    model = build(NetworkConfig(depth=3, units=5))
    kernels = [weights_of(model, f"hidden_{k}")[0] for k in (1, 2, 3)]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])
    next_seed = weights_of(build(NetworkConfig(depth=3, units=5), seed=1), "hidden_1")[0]
    assert not np.array_equal(kernels[1], next_seed)


def test_deeper_network_begins_with_the_same_first_layers() -> None:
    shallow, deep = build(NetworkConfig(depth=1, units=4)), build(NetworkConfig(depth=3, units=4))
    np.testing.assert_array_equal(weights_of(shallow, "hidden_1")[0], weights_of(deep, "hidden_1")[0])


@pytest.mark.parametrize(
    ("activation", "variance"),
    [("relu", 2 / 400), ("gelu", 2 / 400), ("selu", 1 / 400), ("tanh", 2 / 700), ("sigmoid", 2 / 700)],
)
def test_initial_kernel_has_the_variance_that_its_activation_asks_for(activation: Activation, variance: float) -> None:
    model = build(NetworkConfig(depth=1, units=300, activation=activation), feature_shape=(400,))
    kernel = weights_of(model, "hidden_1")[0]
    assert kernel.mean() == pytest.approx(0, abs=5 * np.sqrt(variance / kernel.size))
    assert kernel.var() == pytest.approx(variance, rel=0.03)


def test_network_normalises_its_inputs_inside() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 17, (50, 2, 3, 1)).astype(np.uint8)
    model = build(feature_shape=(2, 3, 1), normalization=fit_normalization(features))
    layer = model.get_layer("normalization")
    normalised = np.asarray(layer(features.reshape(50, 6).astype(np.float32)))
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.var(axis=0), 1, atol=1e-4)
    assert model(features).shape == (50, 3)


# Keras 3.15 saves its variables by np.array, whose new copy keyword they do not know.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("offset", "scale"), [(1.7e9, 1e3), (0.0, 1e30), (0.0, 1e-25)])
def test_network_of_float64_features_normalises_in_float64_and_is_loaded_by_keras_alone(
    offset: float, scale: float, tmp_path: Path
) -> None:
    plain = np.random.default_rng(0).normal(size=(50, 2, 3))
    wide = offset + scale * plain
    expected = build(feature_shape=(2, 3), normalization=fit_normalization(plain.astype(np.float32)))(plain)
    model = build(feature_shape=(2, 3), normalization=fit_normalization(wide))
    model.save(tmp_path / "wide.keras")
    for network in (model, keras.saving.load_model(tmp_path / "wide.keras", compile=False)):
        outputs = network(wide)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_normalisation_of_other_features_is_refused() -> None:
    with pytest.raises(ValueError, match="for each of 5 features, but got 4 and 4"):
        build(normalization=(np.zeros(4, np.float32), np.ones(4, np.float32)))


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="n_classes of at least 2, but got 1"):
        build_network(NetworkConfig(), feature_shape=(2,), n_classes=1, normalization=None, seed=0)


@pytest.mark.slow
def test_network_can_be_compiled_and_fitted_by_keras_alone() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int32)
    model = build(NetworkConfig(depth=1, units=16, batch_norm="before_activation", dropout=0.1, l2=1e-4))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(features, labels, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
