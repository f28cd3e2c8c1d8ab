"""The example of a network of one's own: what studies/fashion_cnn.toml draws is built and trained."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest

from caviar import KerasObjective
from caviar.data.dataset import Dataset, Split
from caviar.spec import read_spec
from caviar.worker.objective import network_function

SPEC = read_spec(Path(__file__).parents[2] / "studies" / "fashion_cnn.toml")


def images(n: int) -> Split:
    generator = np.random.default_rng(n)
    labels = (np.arange(n) % 10).astype(np.int32)
    features = generator.integers(0, 60, (n, 28, 28, 1), np.uint8)
    features[np.arange(n), 2 * labels, :, 0] = 250  # a bright row for each class
    return Split(features=features, labels=labels)


@pytest.mark.slow
def test_it_learns_in_a_stock_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    classes = tuple(f"class {number}" for number in range(10))
    data = Dataset(name="rows", class_names=classes, train=images(400), validation=images(100), fingerprint="")
    space = dataclasses.replace(SPEC.space, fixed={**SPEC.space.fixed, "batch_size": 20})
    network = network_function(SPEC)
    assert network is not None
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(KerasObjective(data, epochs=3, space=space, network=network), n_trials=1)
    assert study.best_value > 0.8
    model = network({"filters": 16, "hidden": 64, "dropout": 0.1}, data)
    assert [type(layer) for layer in model.layers].count(keras.layers.Conv2D) == 2
