"""The best network as a logged model: MLflow loads it, and its run links to it."""

from pathlib import Path

import numpy as np
import pytest

from caviar.networks import quiet_saving
from caviar.record import MlflowMirror
from caviar.record.tracking import connect

from .conftest import build_trial

pytestmark = pytest.mark.slow


def test_mlflow_loads_the_best_trials_network(tracking_uri: str, tmp_path: Path) -> None:
    import keras
    import mlflow

    network = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    path = tmp_path / "7.keras"
    with quiet_saving():
        network.save(path)
    mirror = MlflowMirror(tracking_uri, study_name="toy", artifact_location=(tmp_path / "art").as_uri())
    assert mirror.log_network(7, path) is None  # it has no run yet
    mirror.record(build_trial(7), hyperparameters={"depth": 2}, curves={})
    model_id = mirror.log_network(7, path)
    assert model_id is not None
    assert mirror.log_network(7, path) == model_id

    client = connect(tracking_uri)
    model = client.get_logged_model(model_id)
    assert (model.name, model.status, model.tags["caviar.trial_number"]) == ("trial-7", "READY", "7")
    assert model.params["depth"] == "2"
    experiment_id = mirror.experiment_id()
    assert experiment_id is not None
    run = client.get_run(client.search_runs([experiment_id])[0].info.run_id)
    assert model.source_run_id == run.info.run_id
    assert run.outputs is not None
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    assert len(client.search_logged_models([experiment_id])) == 1

    mlflow.set_tracking_uri(tracking_uri)
    try:
        loaded = mlflow.keras.load_model(f"models:/{model_id}")
        served = mlflow.pyfunc.load_model(f"models:/{model_id}")
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # None unsets it
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(loaded.predict(rows, verbose=0), network.predict(rows, verbose=0))
    assert np.allclose(served.predict(rows), network.predict(rows, verbose=0))
