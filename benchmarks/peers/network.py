"""A configuration as a compiled Keras network, and its training by ``model.fit``, as every Keras peer shares them."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from caviar.networks import build_network
from caviar.space import make_configs
from peers.job import Data


def compiled_network(hyperparameters: Mapping[str, Any], *, data: Data, epochs: int, seed: int) -> Any:
    """Return the network that a trial of ours begins with, compiled with Keras' SGD."""
    network, training = make_configs(hyperparameters, epochs=epochs)
    model = build_network(
        network,
        feature_shape=data.train_features.shape[1:],
        n_classes=data.n_classes,
        normalization=(data.mean, data.variance),
        seed=seed,
    )
    model.compile(
        optimizer=keras.optimizers.SGD(training.learning_rate, momentum=training.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit(model: Any, data: Data, *, batch_size: int, epochs: int, callbacks: Sequence[Any] = ()) -> list[float]:
    """Train by ``model.fit`` and return the validation accuracy by epoch."""
    history = model.fit(
        data.train_features,
        data.train_labels,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(data.validation_features, data.validation_labels),
        callbacks=list(callbacks),
        verbose=0,
    )
    return [float(value) for value in history.history["val_accuracy"]]
