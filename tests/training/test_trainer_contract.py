"""What every trainer must do. A new trainer adds its factory to TRAINERS."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from caviar.config import NetworkConfig, Optimizer, TrainingConfig
from caviar.errors import SpaceError, SpecError
from caviar.networks import build_network, fit_normalization
from caviar.training import FleetData, FleetPrograms, FleetTrainer, Lane, SoloTrainer, TensorSplits, Trainer

Factory = Callable[[NetworkConfig, TrainingConfig, TensorSplits, int], Trainer]
"""Gives a trainer whose lane 0 trains the network and settings given, from the seed given."""

N_CLASSES = 3


def make_splits() -> TensorSplits:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, N_CLASSES, 110).astype(np.int32)
    features = np.clip(rng.normal(6, 3, (110, 3, 2, 1)) + 3 * labels[:, None, None, None], 0, 16).astype(np.uint8)
    return TensorSplits(
        train_features=tf.constant(features[:75]),
        train_labels=tf.constant(labels[:75]),
        validation_features=tf.constant(features[75:]),
        validation_labels=tf.constant(labels[75:]),
        n_classes=N_CLASSES,
    )


def solo(network: NetworkConfig, training: TrainingConfig, data: TensorSplits, seed: int) -> Trainer:
    model = build_network(
        network,
        feature_shape=data.feature_shape,
        n_classes=data.n_classes,
        normalization=fit_normalization(data.train_features.numpy()),
        seed=seed,
    )
    return SoloTrainer(model, data, training, seed=seed)


@functools.cache
def programs() -> FleetPrograms:
    return FleetPrograms(FleetData.from_splits(DATA, normalization=fit_normalization(DATA.train_features.numpy())))


def lone_lane(network: NetworkConfig, training: TrainingConfig, data: TensorSplits, seed: int) -> Trainer:
    assert data is DATA
    return FleetTrainer([Lane(network=network, training=training, seed=seed)], programs())


def lane_among_others(network: NetworkConfig, training: TrainingConfig, data: TensorSplits, seed: int) -> Trainer:
    """A lane beside a deeper one of smaller batches and a narrower one that diverges."""
    assert data is DATA
    deeper = Lane(
        network=dataclasses.replace(network, depth=network.depth + 1, units=11, dropout=0.4),
        training=dataclasses.replace(training, batch_size=10, decay="inverse_time"),
        seed=7,
    )
    wild = Lane(
        network=dataclasses.replace(network, depth=1, units=3),
        training=dataclasses.replace(training, learning_rate=1e30),
        seed=8,
    )
    return FleetTrainer([Lane(network=network, training=training, seed=seed), deeper, wild], programs())


TRAINERS: dict[str, Factory] = {"solo": solo, "lone lane": lone_lane, "lane among others": lane_among_others}

NETWORK = NetworkConfig(depth=2, units=8, batch_norm="before_activation", dropout=0.2, l2=1e-3)
TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.05, decay="exponential")
DATA = make_splits()


@pytest.fixture(params=list(TRAINERS.values()), ids=list(TRAINERS))
def make(request: pytest.FixtureRequest) -> Factory:
    factory: Factory = request.param
    return factory


def run(trainer: Trainer, epochs: int) -> list[dict[str, float]]:
    return [trainer.run_epoch()[0] for _ in range(epochs)]


def test_epoch_gives_each_lane_four_python_floats(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        metrics = trainer.run_epoch()
        assert len(metrics) == trainer.n_lanes
        assert set(metrics[0]) == {"accuracy", "loss", "val_accuracy", "val_loss"}
        assert all(type(value) is float for value in metrics[0].values())


def test_training_learns(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        curve = run(trainer, 10)
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert curve[-1]["val_accuracy"] > 0.5


def test_validation_metrics_are_those_of_the_lane_s_model(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        metrics = run(trainer, 2)[-1]
        logits = np.asarray(trainer.lane_model(0)(DATA.validation_features), np.float64)
    labels = DATA.validation_labels.numpy()
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    assert metrics["val_accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert metrics["val_loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_same_seed_gives_the_same_curve_and_another_seed_another(make: Factory) -> None:
    curves = []
    for seed in (1, 1, 2):
        with make(NETWORK, TRAINING, DATA, seed) as trainer:
            curves.append(run(trainer, 2))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_loaded_state_continues_bit_for_bit(make: Factory, optimizer: Optimizer, tmp_path: Path) -> None:
    training = TrainingConfig(epochs=4, batch_size=16, optimizer=optimizer, learning_rate=0.01, decay="cosine")
    with make(NETWORK, training, DATA, 0) as trainer:
        run(trainer, 1)
        trainer.set_hyperparameter(0, "momentum", 0.7)
        run(trainer, 1)
        np.savez(tmp_path / "state.npz", **trainer.lane_state(0))  # type: ignore[arg-type]  # numpy types its flag as one of them
        expected, expected_state = run(trainer, 2), trainer.lane_state(0)
    with make(NETWORK, training, DATA, 5) as other, np.load(tmp_path / "state.npz") as state:
        other.load_lane_state(0, state)
        assert run(other, 2) == expected
        for key, value in other.lane_state(0).items():
            np.testing.assert_array_equal(value, expected_state[key], err_msg=key)


def test_state_is_a_copy(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        state = trainer.lane_state(0)
        before = {key: value.copy() for key, value in state.items()}
        run(trainer, 1)
    for key, value in state.items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


def test_state_of_another_network_is_refused_and_changes_nothing(make: Factory) -> None:
    with make(NetworkConfig(depth=1, units=5), TRAINING, DATA, 0) as other:
        state = other.lane_state(0)
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        before = trainer.lane_state(0)
        with pytest.raises(ValueError, match="not that of this network and optimizer"):
            trainer.load_lane_state(0, state)
        for key, value in trainer.lane_state(0).items():
            np.testing.assert_array_equal(value, before[key])


@pytest.mark.slow
def test_hyperparameter_acts_as_if_it_had_been_so(make: Factory) -> None:
    """A lane that changes a hyperparameter continues as one that was made with it and given the same weights."""
    changes = {"learning_rate": 0.001, "momentum": 0.1, "decay_rate": 0.6, "dropout": 0.6, "l2": 0.5}
    changed = {}
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        run(trainer, 1)
        state = trainer.lane_state(0)
        unchanged = run(trainer, 1)
        for name, value in changes.items():
            trainer.load_lane_state(0, state)
            trainer.set_hyperparameter(0, name, value)  # type: ignore[arg-type]
            changed[name] = run(trainer, 1)
            assert changed[name] != unchanged, name
    for name, value in changes.items():
        network, training = NETWORK, TRAINING
        if name in ("dropout", "l2"):
            network = NetworkConfig(**{**vars(NETWORK), name: value})
        else:
            training = TrainingConfig(**{**vars(TRAINING), name: value})
        with make(network, training, DATA, 0) as made_so:
            own = {key: array for key, array in made_so.lane_state(0).items() if key.startswith("hyperparameter.")}
            made_so.load_lane_state(0, {**state, **own})
            assert changed[name] == run(made_so, 1), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("decay_rate", 1.0),
        ("dropout", 1.0),
        ("l2", -1.0),
    ],
)
def test_hyperparameter_outside_its_range_is_refused(make: Factory, name: str, value: float) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer, pytest.raises(SpaceError, match=name):
        trainer.set_hyperparameter(0, name, value)  # type: ignore[arg-type]


def test_unknown_hyperparameter_is_refused_with_the_nearest_name(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer, pytest.raises(SpecError, match="Did you mean 'learning_rate'"):
        trainer.set_hyperparameter(0, "learningrate", 0.1)  # type: ignore[arg-type]


def test_dropped_lanes_are_gone(make: Factory) -> None:
    with make(NETWORK, TRAINING, DATA, 0) as trainer:
        n_lanes = trainer.n_lanes
        with pytest.raises(IndexError):
            trainer.drop_lanes([0, n_lanes])
        assert trainer.n_lanes == n_lanes
        trainer.drop_lanes([])
        assert trainer.n_lanes == n_lanes
        trainer.drop_lanes(range(n_lanes))
        assert trainer.n_lanes == 0
        assert trainer.run_epoch() == []
        with pytest.raises(IndexError):
            trainer.lane_state(0)


def test_closed_trainer_has_no_lanes_and_closes_again(make: Factory) -> None:
    trainer = make(NETWORK, TRAINING, DATA, 0)
    trainer.close()
    trainer.close()
    assert trainer.n_lanes == 0
    with pytest.raises(IndexError):
        trainer.lane_model(0)


def test_diverging_lane_raises_nothing_and_reports_a_loss_that_is_not_finite(make: Factory) -> None:
    wild = TrainingConfig(batch_size=16, learning_rate=1e30)
    with make(NetworkConfig(depth=2, units=8), wild, DATA, 0) as trainer:
        curve = run(trainer, 3)
    assert not np.isfinite(curve[-1]["loss"])
    assert not np.isfinite(curve[-1]["val_loss"])


def test_split_smaller_than_the_batch_is_one_batch(make: Factory) -> None:
    one_batch = TrainingConfig(batch_size=75, learning_rate=0.05)
    larger = TrainingConfig(batch_size=1000, learning_rate=0.05)
    with make(NETWORK, one_batch, DATA, 0) as first, make(NETWORK, larger, DATA, 0) as second:
        assert run(first, 2) == run(second, 2)
