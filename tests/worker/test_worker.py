import dataclasses
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from caviar.errors import FatalError, StorageUnavailableError
from caviar.spec import StudySpec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.overview import count_trials
from caviar.storage.schema import optuna_tables
from caviar.storage.studies import create_study, open_study
from caviar.storage.tickets import Ticket, claim_ticket
from caviar.worker.patience import Patience
from caviar.worker.worker import SoloWorker
from caviar.worker.worker_setup import WorkerSetup

Act = Callable[[optuna.Trial], None]


@dataclasses.dataclass
class Objective:
    """Takes the place of training: acts on its first trial, and gives every trial the value 0.5."""

    act: Act = lambda _trial: None
    numbers: list[int] = dataclasses.field(default_factory=list)
    direction: str = "maximize"

    def run(self, trial: optuna.Trial, **_: Any) -> float:
        self.numbers.append(trial.number)
        trial.suggest_float("x", 0, 1)
        if len(self.numbers) == 1:
            self.act(trial)
        trial.report(0.5, step=0)
        return 0.5


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec) -> optuna.Study:
    return create_study(storage, spec, attributes={})


def make_setup(study: optuna.Study, storage: LeasedStorage, spec: StudySpec, objective: Objective) -> WorkerSetup:
    return WorkerSetup(
        study=study,
        storage=storage,
        spec=spec,
        objective=objective,  # type: ignore[arg-type]  # stands in for training
        make_sampler=lambda number: optuna.samplers.RandomSampler(seed=number),
        mirror=None,
        checkpoints=None,
        networks=None,
        stop=threading.Event(),
        share_done=threading.Event(),
        deadline_s=None,
        on_trial=lambda _trial: None,
        poll_s=0.01,
    )


@pytest.fixture
def work(study: optuna.Study, storage: LeasedStorage, spec: StudySpec) -> Callable[[Act], Objective]:
    def run(act: Act) -> Objective:
        objective = Objective(act)
        SoloWorker(make_setup(study, storage, spec, objective)).run()
        return objective

    return run


def states(storage: LeasedStorage, study: optuna.Study) -> dict[str, int]:
    counts = count_trials(storage, study._study_id)
    return {state.name: count for state, count in counts.items() if count}


def expire(storage: LeasedStorage, trial_id: int) -> None:
    with storage.engine.begin() as connection:
        beats = optuna_tables().heartbeats
        long_ago = sqlalchemy.func.datetime("2020-01-01 00:00:00.000000")
        connection.execute(beats.update().where(beats.c.trial_id == trial_id).values(heartbeat=long_ago))


def test_a_trial_failed_from_outside_after_its_last_report_is_replaced(
    storage: LeasedStorage, storage_url: str, study: optuna.Study, spec: StudySpec, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Objective):
        def run(self, trial: optuna.Trial, **_: Any) -> float:
            value = super().run(trial)
            if len(self.numbers) == 1:
                RDBStorage(storage_url).set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return value

    SoloWorker(make_setup(study, storage, spec, Late())).run()
    assert states(storage, study) == {"COMPLETE": 4, "FAIL": 1}
    assert "ended from outside: it is FAIL" in caplog.text


def test_a_trial_that_another_worker_took_is_left_to_it(
    work: Callable[[Act], Objective], storage: LeasedStorage, storage_url: str, study: optuna.Study, spec: StudySpec
) -> None:
    taken: list[Ticket] = []

    def lose(trial: optuna.Trial) -> None:
        expire(storage, trial._trial_id)
        other = open_storage(storage_url, owner=new_owner())
        ticket = claim_ticket(other, study._study_id, budget=4, lease_s=30, retries=2)
        assert isinstance(ticket, Ticket)
        taken.append(ticket)
        open_study(other, study.study_name).tell(ticket.number, 0.75)

    work(lose)
    assert states(storage, study) == {"COMPLETE": 4}
    assert study.trials[taken[0].number].value == 0.75


def test_a_trial_that_was_handed_back_meanwhile_takes_nothing_from_its_late_owner(
    work: Callable[[Act], Objective], storage: LeasedStorage, study: optuna.Study
) -> None:
    def lose(trial: optuna.Trial) -> None:
        with storage.engine.begin() as connection:  # as another worker's claim does with the second expired trial
            tables = optuna_tables()
            connection.execute(tables.trials.update().values(state=TrialState.WAITING))
            attributes = tables.system_attributes
            connection.execute(attributes.delete().where(attributes.c.trial_id == trial._trial_id))

    objective = work(lose)
    assert objective.numbers == [0, 0, 1, 2, 3]
    assert states(storage, study) == {"COMPLETE": 4}


@pytest.mark.parametrize("where", ["sampler", "objective"])
def test_what_raises_fails_the_trial_and_its_retry_runs(
    where: str, storage: LeasedStorage, study: optuna.Study, spec: StudySpec
) -> None:
    def fail(_trial: optuna.Trial) -> None:
        raise KeyError("a mistake of the user's")

    objective = Objective(fail if where == "objective" else lambda _trial: None)
    setup = make_setup(study, storage, spec, objective)
    if where == "sampler":
        calls = iter([True])

        def make(number: int) -> optuna.samplers.BaseSampler:
            if next(calls, False):
                raise KeyError("a mistake of the user's")
            return optuna.samplers.RandomSampler(seed=number)

        setup = dataclasses.replace(setup, make_sampler=make)
    SoloWorker(setup).run()
    assert states(storage, study) == {"COMPLETE": 4, "FAIL": 1}
    assert study.trials[0].user_attrs["fail_reason"] == 'KeyError: "a mistake of the user\'s"'


def test_a_deleted_study_stops_the_worker(
    work: Callable[[Act], Objective], storage: LeasedStorage, study: optuna.Study
) -> None:
    with pytest.raises(FatalError, match="The study was deleted while it ran"):
        work(lambda _trial: optuna.delete_study(study_name=study.study_name, storage=storage))


def outage(message: str, code: int) -> StorageInternalError:
    """Return what a write raises when SQLite answers with this code."""
    original = sqlite3.OperationalError(message)
    original.sqlite_errorcode = code
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = sqlalchemy.exc.OperationalError("UPDATE", {}, original)
    return error


def test_a_trial_that_meets_a_locked_database_is_run_again(
    work: Callable[[Act], Objective], storage: LeasedStorage, study: optuna.Study, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(_trial: optuna.Trial) -> None:
        raise outage("database is locked", sqlite3.SQLITE_BUSY)

    assert work(locked).numbers == [0, 0, 1, 2, 3]
    assert states(storage, study) == {"COMPLETE": 4}
    assert "Trial 0 cannot be written: database is locked." in caplog.text


@pytest.mark.parametrize(
    ("message", "code", "tries"),
    [("database is locked", sqlite3.SQLITE_BUSY, 3), ("database or disk is full", sqlite3.SQLITE_FULL, 1)],
)
def test_waiting_ends_where_it_is_of_no_use(message: str, code: int, tries: int) -> None:
    patience = Patience(threading.Event(), patience_s=0.025, poll_s=0.01)
    tried = []

    def write() -> None:
        tried.append(1)
        raise outage(message, code)

    with pytest.raises(StorageUnavailableError, match=f"{message}.*run the same.*What is done is kept") as refusal:
        patience.outlast(write, what="write")
    assert refusal.value.exit_code == 1
    assert len(tried) >= tries


def test_a_broken_network_stops_the_worker(study: optuna.Study, storage: LeasedStorage, spec: StudySpec) -> None:
    class Broken(Objective):
        def run(self, trial: optuna.Trial, **_: Any) -> float:
            raise RuntimeError("a mistake of the user's")

    with pytest.raises(FatalError, match="5 trials in a row failed, the last with: RuntimeError: a mistake"):
        SoloWorker(make_setup(study, storage, spec, Broken())).run()
    assert set(states(storage, study)) <= {"FAIL", "WAITING"}
