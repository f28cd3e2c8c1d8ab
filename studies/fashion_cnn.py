"""A convolutional network of the user's own, which studies/fashion_cnn.toml searches."""

from collections.abc import Mapping
from typing import Any

import keras

from caviar.data.dataset import Dataset


def network(hyperparameters: Mapping[str, Any], dataset: Dataset) -> keras.Model:
    """Return two convolutions and a dense layer, which end in logits; half of the training images are mirrored.

    Args:
        hyperparameters: What the trial drew from ``[space]``: our own ``filters``, ``hidden`` and ``dropout``.
        dataset: Gives the shape of an image, pixels 0 to 255, and the number of classes.
    """
    filters = hyperparameters["filters"]
    return keras.Sequential(
        [
            keras.Input(dataset.feature_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.RandomFlip("horizontal"),  # clothes seen from the other side; in training alone
            # A stride, instead of pooling: the first layer's maps are the largest, and take half of the time otherwise.
            keras.layers.Conv2D(filters, 5, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Conv2D(2 * filters, 3, padding="same", use_bias=False),
            keras.layers.MaxPooling2D(),  # before the others, which then have a quarter to do; ReLU and maximum commute
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dropout(hyperparameters["dropout"]),
            keras.layers.Dense(hyperparameters["hidden"], activation="relu"),
            keras.layers.Dropout(hyperparameters["dropout"]),
            keras.layers.Dense(dataset.n_classes),
        ]
    )

