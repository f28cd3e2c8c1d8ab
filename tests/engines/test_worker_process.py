import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.trial import TrialState

from caviar.attributes import OWNER
from caviar.commands.run import new_study_attributes
from caviar.commands.work import work_on_study
from caviar.data.dataset import DatasetFacts
from caviar.data.loading import load_dataset
from caviar.engines.engine import WorkOrder
from caviar.engines.fork_server import start_fork_server
from caviar.engines.processes import ProcessEngine, ProcessWorker
from caviar.engines.protocol import WorkerExit
from caviar.engines.work import work
from caviar.spec import StudySpec, parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.overview import count_epochs, count_trials
from caviar.storage.studies import create_study

pytestmark = pytest.mark.slow


def tiny_spec(*, trials: int = 4, epochs: int = 1, sampler: str = "random", dataset: str = "blobs") -> StudySpec:
    return parse_spec(
        {
            "name": "toy",
            "data": {"dataset": f"tests.toy_data:{dataset}"},
            "objective": {"epochs": epochs},
            "search": {
                "trials": trials,
                "sampler": sampler,
                "sampler_options": {"n_startup_trials": 2} if sampler == "tpe" else {},
                "pruner": "none",
                "lease_s": 2,
            },
            "space": {
                "learning_rate": {"low": 1e-3, "high": 0.5, "scale": "log"},
                "batch_size": {"choices": [32, 64]},
                "depth": 1,
                "units": 8,
            },
        }
    )


def begin(path: Path, spec: StudySpec, template: Path) -> tuple[WorkOrder, LeasedStorage, optuna.Study]:
    """Create a study in a home of its own, as ``caviar run`` does."""
    home = locate_home(path)
    path.mkdir(exist_ok=True)
    shutil.copy(template, path / "mlflow.db")
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    dataset = load_dataset(spec.data.dataset, seed=spec.seed)
    study = create_study(storage, spec, attributes=new_study_attributes(DatasetFacts.of(dataset)))
    return WorkOrder(home=home, study=spec.name, spec=spec, threads=1), storage, study


def test_workers_are_forked_with_everything_large_loaded() -> None:
    start_fork_server()
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        loaded: set[str] = pool.submit(eval, "set(__import__('sys').modules)").result()
    database = {"alembic.command", "optuna.storages._rdb.models", "sqlalchemy.dialects.sqlite"}
    large = {"tensorflow", "keras", "tensorflow_datasets", "pyarrow.csv", "optuna.artifacts"}
    assert database | large <= loaded


def test_a_worker_recycles_its_process_and_loses_nothing(tmp_path: Path, tracking_template: Path) -> None:
    spec = tiny_spec(trials=6)
    spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, trainer="solo"))
    order, storage, study = begin(tmp_path / "runs", spec, tracking_template)
    order = dataclasses.replace(order, max_trials=2)
    with ProcessEngine() as engine:
        work_on_study(engine, order, storage, study, n_workers=1, stop=threading.Event())
    owners = [trial.system_attrs[OWNER] for trial in study.trials]
    assert [owner == owners[0] for owner in owners] == [True] * 2 + [False] * 4
    assert len(set(owners)) == 3
    assert count_trials(storage, study._study_id)[TrialState.COMPLETE] == 6


@pytest.mark.parametrize(
    ("sampler", "trainer"), [("random", "auto"), ("qmc", "auto"), ("tpe", "auto"), ("tpe", "solo")]
)
def test_a_study_resumed_equals_one_run_straight(
    sampler: str, trainer: Literal["auto", "solo"], tmp_path: Path, tracking_template: Path
) -> None:
    spec = tiny_spec(trials=8, sampler=sampler)
    spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, trainer=trainer))
    found = []
    for name, budgets in (("resumed", (4, 8)), ("straight", (8,))):
        order, _, study = begin(tmp_path / name, spec, tracking_template)
        for budget in budgets:
            search = dataclasses.replace(order.spec.search, trials=budget)
            spec = dataclasses.replace(order.spec, search=search)
            work(dataclasses.replace(order, spec=spec), owner=new_owner(), stop=threading.Event())
        found.append([(trial.params, trial.value, trial.user_attrs["curves"]) for trial in study.trials])
    resumed, straight = found
    assert len(resumed) == 8
    assert resumed == straight


@pytest.fixture
def endless(tmp_path: Path, tracking_template: Path) -> Iterator[tuple[ProcessWorker, LeasedStorage, optuna.Study]]:
    """A worker in the middle of an epoch that outlasts every test."""
    spec = tiny_spec(epochs=2, dataset="endless_blobs")
    order, storage, study = begin(tmp_path / "runs", spec, tracking_template)
    worker = ProcessEngine().start(dataclasses.replace(order, grace_s=1.0))
    deadline = threading.Event()
    while not any(trial.params for trial in study.trials):
        assert worker.process.is_alive()
        deadline.wait(0.05)
    deadline.wait(2.0)  # building and compiling; a signal that comes earlier is heard at once, which is no less right
    yield worker, storage, study
    worker.end_by(0.0)


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_worker_asked_to_leave_in_a_long_epoch_hands_its_trial_back(
    signals: tuple[signal.Signals, ...], endless: tuple[ProcessWorker, LeasedStorage, optuna.Study]
) -> None:
    worker, storage, study = endless
    process = worker.process
    assert process.pid is not None
    for number in signals:
        os.kill(process.pid, number)
        process.join(0.2)
    process.join(20)
    assert process.exitcode == WorkerExit.STOPPED
    assert count_trials(storage, study._study_id)[TrialState.WAITING] == len(study.trials) > 0
    assert count_epochs(storage, study._study_id) == 0
    assert all(OWNER not in trial.system_attrs for trial in study.trials)
