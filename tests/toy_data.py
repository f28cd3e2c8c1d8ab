"""A data set and networks of the user's own, small enough to train in milliseconds, named by tests' study files."""

import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[np.floating[Any]], NDArray[np.int64]]


def blobs() -> tuple[Arrays, Arrays]:
    """Return three Gaussian clouds in four dimensions: 240 to train, 60 to test."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = generator.normal(size=(300, 4)).astype(np.float32) + 2.0 * np.eye(3, 4, dtype=np.float32)[labels]
    return (features[:240], labels[:240]), (features[240:], labels[240:])


def many_blobs() -> tuple[Arrays, Arrays]:
    """Return the same clouds 100 times, so that tests have time to disturb a training of few epochs."""
    (features, labels), test = blobs()
    return (np.tile(features, (100, 1)), np.tile(labels, 100)), test


def endless_blobs() -> tuple[Arrays, Arrays]:
    """Return the same clouds so often that one epoch outlasts every test."""
    (features, labels), test = blobs()
    return (np.tile(features, (10_000, 1)), np.tile(labels, 10_000)), test


def far_blobs() -> tuple[Arrays, Arrays]:
    """Return the same clouds as seconds since 1970, which float32 knows to two minutes."""
    (features, labels), (test_features, test_labels) = blobs()
    return (1.7e9 + features.astype(np.float64), labels), (1.7e9 + test_features.astype(np.float64), test_labels)


def own_network(hyperparameters: Mapping[str, Any], dataset: Any) -> Any:
    """Return a Keras network that ends in a softmax, its width searched under a name of its own."""
    import keras

    return keras.Sequential(
        [
            keras.layers.Input(dataset.feature_shape),
            keras.layers.Dense(hyperparameters["width"], activation="tanh"),
            keras.layers.Dense(dataset.n_classes, activation="softmax"),
        ]
    )


def drawing_network(hyperparameters: Mapping[str, Any], dataset: Any) -> Any:
    """Return a Keras network that draws at random in every way, and without any seed."""
    import keras
    import tensorflow as tf

    class Noise(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, inputs: Any) -> Any:
            shape = keras.ops.shape(inputs)
            return inputs + 0.1 * (keras.random.normal(shape) + tf.random.normal(shape) + np.random.normal())

    return keras.Sequential(
        [
            keras.layers.Dense(8, activation="tanh"),  # built when it first sees examples
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dropout(0.2),
            Noise(),
            keras.layers.Dense(dataset.n_classes),
        ]
    )


def forgetful_network(hyperparameters: Mapping[str, Any], dataset: Any) -> None:
    """Return nothing, as a user's function without its last line does."""


def broken_network(hyperparameters: Mapping[str, Any], dataset: Any) -> Any:
    """Raise, as a user's function with a mistake does."""
    del hyperparameters, dataset
    raise RuntimeError("a mistake in the user's function")


def leaving() -> NoReturn:
    """End the process as if all were well, as a script that is imported may."""
    sys.exit(0)
