"""``caviar sync`` gives MLflow all that it shows of a study, from Optuna's storage alone."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.processes import ROOT, environment
from tests.worker.fakes import Made, PairPlan

from caviar import KerasObjective
from caviar.commands.run import new_study_attributes
from caviar.data.dataset import DatasetFacts
from caviar.health.mending import sync_study
from caviar.record.tracking import connect
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study
from caviar.worker.opening import open_checkpoints, open_mirror

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
                "data": run.inputs and run.inputs.to_dictionary(),
            }
            for run in runs
        },
    }


def open_made(home: Home, *, create: bool) -> Made:
    """Return a worker that trains nothing, on a study whose trials end in every way that does not depend on order."""
    spec = parse_spec(
        {
            "name": "toy",
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": 4},
            "search": {"trials": 12, "sampler": "random", "pruner": "none", "lease_s": 1, "checkpoint_s": 0},
            "space": {"learning_rate": {"low": 1e-3, "high": 10.0, "scale": "log"}, "depth": 1, "units": 8},
        }
    )
    storage = open_storage(home.storage, owner=new_owner(), create=create)
    objective = KerasObjective("tests.toy_data:blobs", epochs=4, space=spec.space)
    if create:
        create_study(storage, spec, attributes=new_study_attributes(DatasetFacts.of(objective.dataset)))
    made = Made(storage, spec, objective, plan=PairPlan())
    made.options |= {"mirror": open_mirror(home, made.study, spec), "checkpoints": open_checkpoints(home, made.study)}
    return made


def die_in_mid_trial(path: str) -> None:
    """Begin a study, and be killed while the third fleet trains."""

    def kill(epoch: int, _lanes: object) -> None:
        if epoch == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    open_made(locate_home(Path(path)), create=True).work(kill)


@pytest.mark.slow
def test_a_study_killed_and_started_again_is_shown_as_an_undisturbed_one(
    tmp_path: Path, tracking_template: Path
) -> None:
    names = ("killed", "straight", "second", "third")
    killed, straight, second, third = homes = [locate_home(tmp_path / name) for name in names]
    for home in homes:
        home.path.mkdir()
        shutil.copy(tracking_template, home.path)
    code = "import sys; from tests.commands.test_sync import die_in_mid_trial; die_in_mid_trial(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", code, str(killed.path)], cwd=ROOT, env=environment(), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert "RUNNING" in {run.get("status") for run in shown(killed.tracking_uri).values()}

    killed = dataclasses.replace(killed, tracking_uri=second.tracking_uri)  # a new server, which knows nothing
    open_made(killed, create=False).work()
    open_made(straight, create=True).work()
    in_straight = shown(straight.tracking_uri)
    assert {run.get("status") for run in in_straight.values()} == {None, "FINISHED", "KILLED"}
    assert len(in_straight) == 13
    assert sync_study(killed, "toy")[0] >= 4
    assert shown(killed.tracking_uri) == in_straight

    other_server = dataclasses.replace(killed, tracking_uri=third.tracking_uri)
    assert sync_study(other_server, "toy") == (12, 0)
    assert shown(third.tracking_uri) == in_straight
    before = (third.path / "mlflow.db").read_bytes()
    assert sync_study(other_server, "toy") == (0, 0)
    assert (third.path / "mlflow.db").read_bytes() == before
