import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import pytest
import tensorflow as tf
from optuna.trial import TrialState
from tests.toy_data import broken_network, drawing_network, forgetful_network, own_network

from caviar import KerasObjective
from caviar.attributes import CURVES, NETWORK_OUTPUT
from caviar.errors import SpecError, TrialFailed

TINY: dict[str, Any] = {"learning_rate": {"low": 1e-3, "high": 0.3, "scale": "log"}, "depth": 1, "units": 8}


def objective(**options: Any) -> KerasObjective:
    return KerasObjective("tests.toy_data:blobs", **{"epochs": 4, "space": TINY, **options})


def test_another_backend_of_keras_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SpecError, match=r"must be 'tensorflow' here, but .*KERAS_BACKEND chose 'torch'"):
        objective()


@pytest.mark.slow
def test_a_stock_study_on_digits_maximises_validation_accuracy() -> None:
    study = optuna.create_study(direction="maximize")
    study.optimize(KerasObjective("digits", epochs=3), n_trials=3)
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)
    assert len(study.trials) == 3


def test_a_complete_trials_value_is_its_best_epochs_and_every_epoch_is_reported() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    study.optimize(objective(), n_trials=2)
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == [0, 1, 2, 3]
        assert trial.value == max(trial.intermediate_values.values()) == trial.user_attrs["best_value"]
        assert trial.user_attrs[CURVES]["val_accuracy"] == list(trial.intermediate_values.values())
        assert set(trial.user_attrs[CURVES]) == {"accuracy", "loss", "val_accuracy", "val_loss"}


def test_a_pruned_trials_value_is_its_last_report_with_its_best_beside_it() -> None:
    study = optuna.create_study(
        direction="minimize", pruner=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=1)
    )
    study.optimize(objective(metric="val_loss"), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.value == trial.intermediate_values[1]
    assert trial.user_attrs["best_value"] == min(trial.intermediate_values.values())


def test_a_diverged_trial_teaches_the_sampler_the_worst_case() -> None:
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.NopPruner())
    diverging = {**TINY, "learning_rate": {"low": 1e29, "high": 1e30}}
    study.optimize(objective(metric="val_loss", space=diverging), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.value == pytest.approx(10 * np.log(3))
    assert trial.user_attrs["diverged"] is True


@pytest.mark.parametrize(
    ("directions", "metric", "right"),
    [
        (["minimize"], "val_accuracy", "maximize"),
        (["maximize"], "val_loss", "minimize"),
        (["maximize", "maximize"], "accuracy", "maximize"),
    ],
)
def test_a_study_with_other_directions_is_refused_before_training(
    directions: list[Any], metric: str, right: str
) -> None:
    study = optuna.create_study(directions=directions)
    with pytest.raises(SpecError, match=f'create_study\\(direction="{right}"\\)'):
        study.optimize(objective(metric=metric), n_trials=1)
    assert study.trials[0].params == {}


def test_the_best_trial_is_evaluated_again_outside_its_study() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    study.optimize(objective(), n_trials=2)
    best = study.best_trial
    assert objective()(best) == best.value
    assert objective()(optuna.trial.FixedTrial(best.params, number=best.number)) == best.value
    assert study.best_trial == best


def test_a_fixed_trial_takes_the_names_that_a_study_file_has() -> None:
    space = {**TINY, "learning_rate": 0.1, "momentum": {"low": 0.5, "high": 0.99, "scale": "log-complement"}}
    by_name = objective(space=space)(optuna.trial.FixedTrial({"momentum": 0.9}))
    assert by_name == objective(space=space)(optuna.trial.FixedTrial({"one_minus_momentum": 0.1}))
    with pytest.raises(TrialFailed, match="Did you mean 'momentum'"):
        objective(space=space)(optuna.trial.FixedTrial({"momentun": 0.9}))


def test_an_enqueued_value_that_the_space_refuses_fails_its_trial_alone() -> None:
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"learning_rate": 0.5})
    study.optimize(objective(), n_trials=2, catch=TrialFailed)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_equal_seeds_give_equal_curves_and_other_seeds_others() -> None:
    def curves(seed: int) -> Any:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective(seed=seed), n_trials=1)
        return study.trials[0].user_attrs[CURVES]

    assert curves(0) == curves(0)
    assert curves(0) != curves(1)


def test_large_offsets_change_nothing_but_the_rounding() -> None:
    losses = []
    for data in ("blobs", "far_blobs"):
        study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(KerasObjective(f"tests.toy_data:{data}", epochs=3, metric="val_loss", space=TINY), n_trials=1)
        losses.append(study.best_value)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_network_of_the_users_own_that_takes_float32_is_told_once_of_what_it_loses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(direction="maximize")
    space = {"width": {"low": 4, "high": 16}}
    study.optimize(KerasObjective("tests.toy_data:far_blobs", epochs=1, space=space, network=own_network), n_trials=2)
    told = [message for message in caplog.messages if "but the network takes float32" in message]
    assert len(told) == 1


def test_a_network_of_the_users_own_is_trained_in_its_own_space() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    space = {"width": {"low": 4, "high": 16, "scale": "log"}, "learning_rate": {"low": 0.05, "high": 0.3}}
    study.optimize(objective(network=own_network, space=space, epochs=8), n_trials=2)
    assert set(study.best_params) == {"width", "learning_rate"}
    assert study.best_value > 0.8


def test_equal_runs_are_equal_whatever_a_network_of_the_users_own_draws() -> None:
    def curves(seed: int) -> Any:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective(network=drawing_network, seed=seed), n_trials=1)
        return study.trials[0].user_attrs[CURVES]

    first = curves(0)
    random.random(), np.random.random(), keras.random.uniform(()), tf.random.uniform(())
    assert curves(0) == first
    assert curves(1) != first


def test_the_users_own_random_numbers_go_on_as_if_no_network_had_been_built() -> None:
    def draw(*, train: bool) -> list[float]:
        keras.utils.set_random_seed(3)
        values = [random.random(), np.random.random(), keras.random.uniform(()), tf.random.uniform(())]
        if train:
            study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
            study.optimize(objective(network=drawing_network), n_trials=1)
        values += [random.random(), np.random.random(), keras.random.uniform(()), tf.random.uniform(())]
        return [float(value) for value in values]

    assert draw(train=True) == draw(train=False)


def test_what_a_network_gives_is_kept_with_its_trial_unless_it_is_said() -> None:
    found = []
    for output in (None, "logits"):
        study = optuna.create_study(direction="maximize")
        space = {"width": 4, "learning_rate": {"low": 0.1, "high": 0.2}}
        study.optimize(objective(network=own_network, space=space, output=output), n_trials=1)
        found.append(study.trials[0].user_attrs[NETWORK_OUTPUT])
    assert found == ["probabilities", "logits"]


def test_a_network_function_that_returns_nothing_is_told_so() -> None:
    study = optuna.create_study(direction="maximize")
    with pytest.raises(SpecError, match=r"must be a keras.Model, but it is None. Return one from your function"):
        study.optimize(objective(network=forgetful_network), n_trials=1)


def test_what_the_users_function_raises_is_raised() -> None:
    study = optuna.create_study(direction="maximize")
    with pytest.raises(RuntimeError, match="a mistake in the user's function"):
        study.optimize(objective(network=broken_network), n_trials=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "val_acc"}, r"Did you mean 'val_accuracy'\?"),
        ({"output": "softmax"}, "output must be one of logits, probabilities or None, but got 'softmax'"),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 1000000, but got 0"),
        ({"space": {"width": {"low": 1, "high": 2}}}, "No hyperparameter is called 'width'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        objective(**options)


@pytest.mark.slow
def test_a_stock_study_is_logged_only_where_a_tracking_uri_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent))
    study = optuna.create_study(direction="maximize", study_name="stock")
    study.optimize(objective(epochs=1), n_trials=1)
    assert list(tmp_path.iterdir()) == []
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    study.optimize(objective(tracking_uri=uri), n_trials=1)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("stock")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status in ("FINISHED", "KILLED")
    assert run.data.metrics["val_accuracy"] == list(study.trials[1].intermediate_values.values())[-1]
