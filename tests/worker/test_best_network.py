from pathlib import Path
from typing import Any

import fsspec
import keras
import numpy as np
import optuna
import pytest
from tests.toy_data import own_network

from caviar import KerasObjective
from caviar.attributes import NETWORK_LOST
from caviar.networks import Output
from caviar.storage.places import local_copy, parse_files
from caviar.storage.remote import RemotePath
from caviar.worker.best_network import NetworkFolder, best_standing
from caviar.worker.trial_run import TrialRun, standing

SPACE = {"width": {"low": 4, "high": 8}, "learning_rate": {"low": 0.1, "high": 0.2}}
OBJECTIVE = KerasObjective("tests.toy_data:blobs", epochs=2, space=SPACE, network=own_network)
VALIDATION = OBJECTIVE.dataset.validation


class Scaled(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer of the user's own, which Keras cannot find by its name."""

    def call(self, inputs: Any) -> Any:
        return 2.0 * inputs


class Unsaveable(Scaled):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor


def network(*ends: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), *ends])


@pytest.fixture
def folder(tmp_path: Path) -> NetworkFolder:
    return NetworkFolder(tmp_path / "networks", tmp_path / "artifacts", validation=VALIDATION)


def run_of(model: Any, *, is_softmax: bool, off_by: float = 0.0) -> TrialRun:
    """Return the run of a trial that reported the model's loss, or one that is off."""
    rows = model(VALIDATION.features)
    losses = keras.losses.sparse_categorical_crossentropy(VALIDATION.labels, rows, from_logits=not is_softmax)
    run = TrialRun(optuna.create_study(direction="maximize").ask(), metric="val_accuracy", n_classes=3)
    loss = float(keras.ops.mean(losses)) + off_by
    run.record({"val_accuracy": 0.5, "val_loss": loss, "accuracy": 0.5, "loss": loss})
    return run


@pytest.mark.parametrize(
    ("ends", "output"),
    [
        ([], "logits"),
        ([keras.layers.Softmax()], "probabilities"),
        ([keras.layers.Softmax(), keras.layers.Flatten()], "probabilities"),
        ([Scaled()], "logits"),
    ],
)
def test_a_saved_network_gives_probabilities_with_the_reported_loss(
    folder: NetworkFolder, tmp_path: Path, ends: Any, output: Output
) -> None:
    model = network(*ends)
    run = run_of(model, is_softmax=output == "probabilities")
    run.output = output
    folder.save(run, model)
    own = {"Scaled": Scaled}
    loaded = keras.saving.load_model(tmp_path / "networks" / "0.keras", custom_objects=own, compile=False)
    given = np.asarray(loaded(VALIDATION.features), np.float64)
    loss = -np.log(given[np.arange(len(given)), VALIDATION.labels]).mean()
    assert loss == pytest.approx(run.curves["val_loss"][0], rel=1e-5)
    assert NETWORK_LOST not in run.trial.user_attrs
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


@pytest.mark.parametrize(
    ("ends", "output", "off_by", "reason"),
    [
        ([], "logits", 0.1, r"its file gives a val_loss of \d\.\d+, but the trial reported \d\.\d+"),
        ([], "logits", -0.1, "its file gives a val_loss of"),
        ([keras.layers.Softmax()], "logits", 0.0, "its file gives a val_loss of"),
        ([], "probabilities", 0.0, 'its outputs are no longer probabilities.*caviar took it for "probabilities"'),
        ([Unsaveable(2.0)], "logits", 0.0, "Unsaveable.__init__.. got an unexpected keyword argument"),
    ],
)
def test_a_network_that_is_not_what_was_trained_does_not_count_as_saved(
    folder: NetworkFolder, tmp_path: Path, ends: Any, output: Output, off_by: float, reason: str
) -> None:
    model = network(*ends)
    model.layers[0].kernel.assign(3.0 * np.eye(4, 3))
    run = run_of(model, is_softmax=bool(ends), off_by=off_by)
    run.output = output
    folder.save(run, model)
    assert list((tmp_path / "networks").iterdir()) == []
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(run.trial.user_attrs[NETWORK_LOST])


def test_a_network_for_which_there_is_no_room_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "networks").touch()
    model = network()
    run = run_of(model, is_softmax=False)
    NetworkFolder(tmp_path / "networks", tmp_path / "artifacts", validation=VALIDATION).save(run, model)
    assert "Not a directory" in run.trial.user_attrs[NETWORK_LOST]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_of_equal_trials_the_lowest_number_is_the_best_as_in_optuna(direction: Any) -> None:
    study = optuna.create_study(direction=direction)
    values = [0.5, 0.7, 0.3, 0.7, 0.3]
    for value in values:
        study.tell(study.ask(), value)
    metric = "val_accuracy" if direction == "maximize" else "val_loss"
    best = best_standing(study, metric)
    assert best == standing(study.best_value, study.best_trial.number, metric=metric)
    assert all(best >= standing(value, number, metric=metric) for number, value in enumerate(values))
    assert best > standing(study.best_value, study.best_trial.number + 1, metric=metric)


def test_a_network_is_kept_in_a_store_elsewhere_and_one_that_is_away_keeps_none(
    memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = parse_files(memory_url)
    folder, model = NetworkFolder(place / "networks", place / "artifacts", validation=VALIDATION), network()
    run = run_of(model, is_softmax=False)
    run.output = "logits"
    folder.save(run, model)
    with local_copy(place / "networks" / "0.keras") as file:
        assert keras.saving.load_model(file, compile=False).count_params() == model.count_params()
    assert isinstance(place, RemotePath)
    assert len((place / "artifacts").names()) == 1

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("https://ann:s3cret@store.example does not answer")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "put_file", fail)
    folder.save(run, model)
    assert run.trial.user_attrs[NETWORK_LOST] == (
        f"https://***@store.example does not answer: {memory_url}/networks/0.keras"
    )
