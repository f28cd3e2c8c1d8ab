"""``caviar sync`` gives MLflow all that it shows of a study, from Optuna's storage alone."""

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest

from caviar.commands.run import new_study_attributes
from caviar.data.dataset import DatasetFacts
from caviar.data.loading import load_dataset
from caviar.engines.engine import WorkOrder
from caviar.engines.processes import ProcessEngine
from caviar.engines.work import work
from caviar.health.mending import sync_study
from caviar.record.tracking import connect
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study
from tests.processes import wait_until

#: What differs between two runs of one study in any case: which process ran a trial, and which study it belongs to.
_OF_ONE_RUN = ("caviar.worker", "caviar.study_uid")


def shown(tracking_uri: str) -> dict[str, Any]:
    """Return all that MLflow shows of the study but times and identities: of the experiment, and run by run."""
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {
        "experiment": {key: value for key, value in experiment.tags.items() if key not in _OF_ONE_RUN},
        **{
            str(run.info.run_name): {
                "status": run.info.status,
                "params": run.data.params,
                "tags": {key: value for key, value in run.data.tags.items() if key not in _OF_ONE_RUN},
                "has worker": "caviar.worker" in run.data.tags,
                "metrics": {
                    key: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
                    for key in run.data.metrics
                },
                "data": [given.to_dictionary() for given in run.inputs.dataset_inputs],
            }
            for run in runs
        },
    }


def make_home(path: Path, template: Path) -> Home:
    path.mkdir()
    shutil.copy(template, path)
    return locate_home(path)


def begin(home: Home) -> tuple[WorkOrder, optuna.Study]:
    spec = parse_spec(
        {
            "name": "toy",
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": 4},
            "search": {"trials": 24, "sampler": "random", "trainer": "solo", "lease_s": 1, "checkpoint_s": 0},
            "space": {"learning_rate": {"low": 1e-3, "high": 0.5, "scale": "log"}, "depth": 1, "units": 8},
        }
    )
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    dataset = load_dataset(spec.data.dataset, seed=spec.seed)
    study = create_study(storage, spec, attributes=new_study_attributes(DatasetFacts.of(dataset)))
    return WorkOrder(home=home, study=spec.name, spec=spec, threads=1), study


def finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


@pytest.mark.slow
def test_a_study_killed_and_started_again_is_shown_as_an_undisturbed_one(
    tmp_path: Path, tracking_template: Path
) -> None:
    killed, straight, elsewhere = (
        make_home(tmp_path / name, tracking_template) for name in ("killed", "straight", "elsewhere")
    )
    order, study = begin(killed)
    worker = ProcessEngine().start(order)
    wait_until(lambda: finished(study) >= 2)
    worker.process.kill()
    worker.end_by(0.0)
    assert finished(study) < 24
    shutil.copy(tracking_template, killed.path)  # an outage: MLflow has lost all it had
    for log in killed.path.glob("mlflow.db-*"):
        log.unlink()
    for again in (order, begin(straight)[0]):
        work(again, owner=new_owner(), stop=threading.Event())
    assert sync_study(killed, "toy")[0] >= 2
    in_straight = shown(straight.tracking_uri)
    assert len(in_straight) == 25
    assert shown(killed.tracking_uri) == in_straight
    other_server = dataclasses.replace(killed, tracking_uri=elsewhere.tracking_uri)
    assert sync_study(other_server, "toy") == (24, 0)
    assert shown(elsewhere.tracking_uri) == in_straight
    before = (elsewhere.path / "mlflow.db").read_bytes()
    assert sync_study(other_server, "toy") == (0, 0)
    assert (elsewhere.path / "mlflow.db").read_bytes() == before
