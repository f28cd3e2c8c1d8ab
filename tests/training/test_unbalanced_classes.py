"""Class weights and metrics by class, in both trainers, against Keras and scikit-learn."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight

from caviar.config import NetworkConfig, Optimizer, TrainingConfig
from caviar.data.dataset import Dataset, Split
from caviar.errors import SpecError
from caviar.networks import build_network, fit_normalization
from caviar.training import FleetData, FleetPrograms, FleetTrainer, Lane, Metrics, SoloTrainer, TensorSplits
from caviar.training.class_metrics import class_metrics, counts_by_class


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_metrics_by_class_are_those_of_scikit_learn(data: st.DataObject) -> None:
    n_classes, n = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 40))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    labels, predicted = np.array(data.draw(classes), np.int32), np.array(data.draw(classes))
    outputs = tf.one_hot(predicted, n_classes)
    balanced, macro = class_metrics(counts_by_class(outputs, labels, tf.ones([n])), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are only predicted
        expected = balanced_accuracy_score(labels, predicted)
    assert float(balanced) == pytest.approx(expected, abs=1e-6)
    assert float(macro) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-6)


def unbalanced(n_common: int = 180, n_rare: int = 20, *, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [n_common, n_rare, n_rare]).astype(np.int32)
    features = generator.normal(size=(len(labels), 4)).astype(np.float32)
    features[labels == 1, 0] += 1.5
    features[labels == 2, 1] += 1.5
    return Split(features=features, labels=labels)


DATA = Dataset(
    name="rare",
    class_names=("common", "rare", "other"),
    train=unbalanced(),
    validation=unbalanced(90, 10, seed=1),
    fingerprint="",
)
NORMALIZATION = fit_normalization(DATA.train.features)
NETWORK = NetworkConfig(depth=1, units=8, batch_norm="after_activation")
TRAINING = TrainingConfig(epochs=30, batch_size=20, learning_rate=0.1)


def solo(splits: TensorSplits, *, epochs: int, seed: int = 0) -> list[Metrics]:
    model = build_network(NETWORK, feature_shape=(4,), n_classes=3, normalization=NORMALIZATION, seed=seed)
    trainer = SoloTrainer(model, splits, TRAINING, seed=seed)
    return [trainer.run_epoch()[0] for _ in range(epochs)]


def fleet(splits: TensorSplits, *, epochs: int, seed: int = 0) -> list[Metrics]:
    programs = FleetPrograms(FleetData.from_splits(splits, normalization=NORMALIZATION))
    with FleetTrainer([Lane(network=NETWORK, training=TRAINING, seed=seed)], programs) as trainer:
        return [trainer.run_epoch()[0] for _ in range(epochs)]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_both_trainers_agree(balanced: bool, by_class: bool) -> None:
    splits = TensorSplits.from_dataset(DATA, class_weight="balanced" if balanced else None, by_class=by_class)
    alone, lane = (train(splits, epochs=2) for train in (solo, fleet))
    for found, expected in zip(lane, alone, strict=True):
        assert found == pytest.approx(expected, abs=2e-4)
        assert len(found) == (6 if by_class else 4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_unequal_lanes_side_by_side_agree_with_the_solo_trainer(optimizer: Optimizer, float64: None) -> None:
    splits = TensorSplits.from_dataset(DATA, class_weight="balanced", by_class=True)
    lanes = [
        Lane(
            network=NetworkConfig(depth=depth, units=5, batch_norm="before_activation", dropout=dropout, l2=0.01),
            training=TrainingConfig(epochs=5, batch_size=size, optimizer=optimizer, learning_rate=0.01),
            seed=depth,
        )
        for depth, size, dropout in ((1, 7, 0.0), (2, 20, 0.3), (3, 1000, 0.0))
    ]
    programs = FleetPrograms(FleetData.from_splits(splits, normalization=NORMALIZATION))
    with FleetTrainer(lanes, programs) as trainer:
        found = trainer.run_epoch()
    for lane, metrics in zip(lanes, found, strict=True):
        model = build_network(
            lane.network, feature_shape=(4,), n_classes=3, normalization=NORMALIZATION, seed=lane.seed
        )
        (expected,) = SoloTrainer(model, splits, lane.training, seed=lane.seed).run_epoch()
        assert metrics == pytest.approx(expected, rel=1e-9)


def test_metrics_by_class_are_those_of_the_validation_predictions() -> None:
    splits = TensorSplits.from_dataset(DATA, by_class=True)
    model = build_network(NETWORK, feature_shape=(4,), n_classes=3, normalization=NORMALIZATION, seed=0)
    trainer = SoloTrainer(model, splits, TRAINING, seed=0)
    (metrics,) = trainer.run_epoch()
    predicted = np.asarray(model(DATA.validation.features)).argmax(axis=1)
    labels = DATA.validation.labels
    assert metrics["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-6)
    macro = f1_score(labels, predicted, average="macro", zero_division=0)
    assert metrics["val_macro_f1"] == pytest.approx(macro, abs=1e-6)


def test_weights_are_scikit_learns() -> None:
    splits = TensorSplits.from_dataset(DATA, class_weight="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=DATA.train.labels)
    np.testing.assert_allclose(splits.class_weights, expected, rtol=1e-6)


def test_weights_may_be_given_by_class_and_only_their_ratios_count() -> None:
    given, scaled = (
        TensorSplits.from_dataset(DATA, class_weight={"rare": factor * 3.0, "common": factor, "other": factor})
        for factor in (1.0, 100.0)
    )
    np.testing.assert_allclose(given.class_weights, scaled.class_weights, rtol=1e-6)
    weights = given.class_weights.numpy()
    assert weights[1] == pytest.approx(3 * weights[0])
    assert weights[DATA.train.labels].mean() == pytest.approx(1.0)
    with pytest.raises(SpecError, match=r"there is no class 'rara'.*'rare'"):
        TensorSplits.from_dataset(DATA, class_weight={"rara": 2.0})


@pytest.mark.filterwarnings("ignore:.*__array__:DeprecationWarning")
def test_a_weighted_step_is_that_of_keras() -> None:
    splits = TensorSplits.from_dataset(DATA, class_weight="balanced")
    one_batch = TrainingConfig(epochs=1, batch_size=len(DATA.train.labels), learning_rate=0.1, momentum=0.0)
    models: list[Any] = [
        build_network(NETWORK, feature_shape=(4,), n_classes=3, normalization=NORMALIZATION, seed=3) for _ in range(2)
    ]
    (metrics,) = SoloTrainer(models[0], splits, one_batch, seed=0).run_epoch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    models[1].compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    weights = dict(enumerate(splits.class_weights.numpy().tolist()))
    expected = models[1].train_on_batch(DATA.train.features, DATA.train.labels, class_weight=weights)
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)
    for found, wanted in zip(models[0].trainable_variables, models[1].trainable_variables, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("train", [solo, fleet])
def test_balanced_weights_find_more_of_the_rare_classes(train: Any) -> None:
    reached = {
        balanced: np.mean(
            [
                train(
                    TensorSplits.from_dataset(DATA, class_weight="balanced" if balanced else None, by_class=True),
                    epochs=12,
                    seed=seed,
                )[-1]["val_balanced_accuracy"]
                for seed in range(3)
            ]
        )
        for balanced in (False, True)
    }
    assert reached[True] > reached[False] + 0.05
    weighted = LogisticRegression(class_weight="balanced").fit(DATA.train.features, DATA.train.labels)
    linear = balanced_accuracy_score(DATA.validation.labels, weighted.predict(DATA.validation.features))
    assert reached[True] > linear - 0.1
