"""What a fleet does that a solo trainer does not: lanes that join, leave, differ and diverge."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from caviar.config import NetworkConfig, TrainingConfig
from caviar.errors import SpecError
from caviar.networks import build_network, fit_normalization
from caviar.training import FleetData, FleetPrograms, FleetTrainer, Lane, SoloTrainer, TensorSplits


def make_splits(n_validation: int = 30) -> TensorSplits:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 60 + n_validation).astype(np.int32)
    features = np.clip(rng.normal(6, 3, (len(labels), 5)) + 2 * labels[:, None], 0, 16).astype(np.uint8)
    return TensorSplits(
        train_features=tf.constant(features[:60]),
        train_labels=tf.constant(labels[:60]),
        validation_features=tf.constant(features[60:]),
        validation_labels=tf.constant(labels[60:]),
        n_classes=3,
    )


SPLITS = make_splits()
NORMALIZATION = fit_normalization(SPLITS.train_features.numpy())
TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.05)
FIRST = Lane(network=NetworkConfig(depth=2, units=8, batch_norm="before_activation"), training=TRAINING, seed=1)
SECOND = Lane(network=NetworkConfig(depth=1, units=12, batch_norm="before_activation"), training=TRAINING, seed=2)
THIRD = Lane(network=NetworkConfig(depth=3, units=5, batch_norm="before_activation"), training=TRAINING, seed=3)


@pytest.fixture(scope="module")
def programs() -> FleetPrograms:
    return FleetPrograms(FleetData.from_splits(SPLITS, normalization=NORMALIZATION))


def losses(metrics: list[dict[str, float]]) -> list[float]:
    return [lane["loss"] for lane in metrics]


def test_lanes_join_and_leave_between_epochs_and_go_on_where_they_are(programs: FleetPrograms) -> None:
    with FleetTrainer([FIRST], programs) as fleet:
        alone = [fleet.run_epoch()[0]["loss"] for _ in range(4)]
    with FleetTrainer([SECOND, FIRST], programs) as fleet:
        together = [fleet.run_epoch()[1]["loss"] for _ in range(2)]
        fleet.add_lanes([THIRD])
        assert fleet.n_lanes == 3
        together.append(fleet.run_epoch()[1]["loss"])
        fleet.drop_lanes([0, 2])
        together.append(fleet.run_epoch()[0]["loss"])
        assert fleet.lane_state(0)["epoch"] == 4
    assert together == pytest.approx(alone, rel=1e-4)


def test_metrics_keep_the_lanes_order_whatever_their_depths(programs: FleetPrograms) -> None:
    lanes = [SECOND, FIRST, THIRD]
    with FleetTrainer(lanes, programs) as fleet:
        together = losses(fleet.run_epoch())
    for lane, loss in zip(lanes, together, strict=True):
        with FleetTrainer([lane], programs) as fleet:
            assert fleet.run_epoch()[0]["loss"] == pytest.approx(loss, rel=1e-5)


def test_fleets_of_other_sizes_widths_and_batches_share_a_program(programs: FleetPrograms) -> None:
    before = programs.n_traces
    wide = Lane(network=dataclasses.replace(THIRD.network, units=40), training=TRAINING, seed=0)
    small_batches = dataclasses.replace(THIRD, training=dataclasses.replace(TRAINING, batch_size=5))
    for lanes in ([THIRD], [THIRD, FIRST, SECOND], [wide, wide], [small_batches]):
        with FleetTrainer(lanes, programs) as fleet:
            fleet.run_epoch()
    assert programs.n_traces <= before + 1


def test_diverging_lane_never_touches_its_neighbours(programs: FleetPrograms) -> None:
    wild = dataclasses.replace(SECOND, training=dataclasses.replace(TRAINING, learning_rate=1e30))
    curves: list[list[float]] = []
    for neighbour in (SECOND, wild):
        with FleetTrainer([FIRST, neighbour], programs) as fleet:
            epochs = [losses(fleet.run_epoch()) for _ in range(3)]
        curves.append([epoch[0] for epoch in epochs])
    assert not np.isfinite(epochs[-1][1])
    assert curves[0] == curves[1]


def test_lanes_of_different_kinds_are_refused(programs: FleetPrograms) -> None:
    other = dataclasses.replace(SECOND, network=NetworkConfig(depth=1, units=12, activation="tanh"))
    with pytest.raises(SpecError, match="same activation, placement of batch norm and optimizer"):
        FleetTrainer([FIRST, other], programs)
    with FleetTrainer([FIRST], programs) as fleet:
        with pytest.raises(SpecError, match="tanh"):
            fleet.add_lanes([SECOND, other])
        assert fleet.n_lanes == 1


def test_lane_s_keras_network_gives_its_predictions(programs: FleetPrograms) -> None:
    with FleetTrainer([FIRST, THIRD], programs) as fleet:
        fleet.run_epoch()
        metrics = fleet.run_epoch()
        for lane in range(2):
            model: Any = fleet.lane_model(lane)
            logits = tf.cast(model(SPLITS.validation_features), tf.float64)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(SPLITS.validation_labels, logits)
            assert metrics[lane]["val_loss"] == pytest.approx(float(tf.reduce_mean(loss)), rel=1e-5)


def test_solo_trainer_s_state_goes_on_in_a_fleet_and_back(programs: FleetPrograms) -> None:
    def solo() -> SoloTrainer:
        model = build_network(FIRST.network, feature_shape=(5,), n_classes=3, normalization=NORMALIZATION, seed=1)
        return SoloTrainer(model, SPLITS, TRAINING, seed=1)

    with solo() as trainer:
        trainer.run_epoch()
        state = trainer.lane_state(0)
        expected = [trainer.run_epoch()[0]["loss"] for _ in range(2)]
    with FleetTrainer([SECOND, FIRST], programs) as fleet:
        fleet.load_lane_state(1, state)
        first = fleet.run_epoch()[1]["loss"]
        back = fleet.lane_state(1)
    with solo() as trainer:
        trainer.load_lane_state(0, back)
        second = trainer.run_epoch()[0]["loss"]
    assert [first, second] == pytest.approx(expected, rel=1e-4)


def test_large_data_is_normalised_batch_by_batch_to_the_same_values(programs: FleetPrograms) -> None:
    data = FleetData.from_splits(SPLITS, normalization=NORMALIZATION, largest_normalized_bytes=0)
    assert data.tensors.train_features.dtype == tf.uint8
    with FleetTrainer([FIRST], programs) as fleet, FleetTrainer([FIRST], FleetPrograms(data)) as other:
        assert fleet.run_epoch() == other.run_epoch()


def test_validation_in_several_batches_counts_each_example_once() -> None:
    splits = make_splits(n_validation=250)
    wide = Lane(network=NetworkConfig(depth=1, units=50_000), training=TRAINING, seed=0)  # takes 100 examples at a time
    with FleetTrainer([wide], FleetPrograms(FleetData.from_splits(splits, normalization=None))) as fleet:
        metrics = fleet.run_epoch()[0]
        logits = np.asarray(fleet.lane_model(0)(splits.validation_features), np.float64)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(splits.validation_labels, logits)
    assert metrics["val_loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx((logits.argmax(axis=1) == splits.validation_labels.numpy()).mean())


def test_first_dropout_of_a_fleet_takes_effect(programs: FleetPrograms) -> None:
    with FleetTrainer([FIRST, SECOND], programs) as fleet:
        state = [fleet.lane_state(lane) for lane in range(2)]
        before = losses(fleet.run_epoch())
        for lane in range(2):
            fleet.load_lane_state(lane, state[lane])
        fleet.set_hyperparameter(0, "dropout", 0.5)
        after = losses(fleet.run_epoch())
    assert after[0] > before[0]
    assert after[1] == pytest.approx(before[1], rel=1e-5)
