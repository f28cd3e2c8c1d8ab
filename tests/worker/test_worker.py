"""A worker keeps every guarantee, whether its crew trains one trial at a time or in fleets."""

import dataclasses
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from tests.databases import EVERY_DATABASE, claim_ticket, expire, hand_back
from tests.worker import fakes
from tests.worker.fakes import Made, Mirror, Networks, NoCheckpoints, PairPlan, accuracy

from caviar import KerasObjective
from caviar.attributes import CURVES, DEATHS, FAIL_REASON, PAUSED
from caviar.errors import FatalError, SpaceError, SpecError, StorageUnavailableError
from caviar.optuna_private import optuna_tables
from caviar.packing.cost_model import TYPICAL
from caviar.packing.planning import SoloPlan
from caviar.search.samplers import make_sampler_factory
from caviar.search.seeds import trial_seed
from caviar.spec import StudySpec, parse_spec
from caviar.storage.checkpoints import Checkpoint, CheckpointStore
from caviar.storage.database import new_owner, open_storage
from caviar.storage.studies import open_study
from caviar.storage.tickets import Ticket, claim_tickets
from caviar.worker import worker as worker_module
from caviar.worker.best_network import NetworkFolder
from caviar.worker.objective import LaneSpec
from caviar.worker.patience import Patience
from caviar.worker.trainers import fleet_crew, solo_crew

EPOCHS = 4


class Killed(BaseException):
    """Ends a worker as SIGKILL does: nothing is flushed, handed back or cleaned up."""


def elsewhere(made: Made, path: Path, **search: Any) -> Made:
    """The same study once more, in a database of its own."""
    storage = open_storage(f"sqlite:///{path}", owner=new_owner(), create=True)
    spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, **search))
    return Made(storage, spec, made.objective, plan=made.plan)


def outage(message: str, code: int) -> StorageInternalError:
    """Return what a write raises when SQLite answers with this code."""
    original = sqlite3.OperationalError(message)
    original.sqlite_errorcode = code
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = sqlalchemy.exc.OperationalError("UPDATE", {}, original)
    return error


def test_the_budget_is_run_and_every_trial_has_its_whole_curve(made: Made) -> None:
    trainers = made.work()
    assert made.states == {"COMPLETE": 6}
    for trial in made.stored:
        assert sorted(trial.intermediate_values) == list(range(EPOCHS))
        assert trial.value == max(trial.intermediate_values.values())
        assert set(trial.user_attrs[CURVES]) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert sorted(trial.number for trial in made.ended) == list(range(6))
    assert sum(trainers.sizes) == 6 * EPOCHS
    assert made.work().epochs == []


def test_pruning_is_the_pruners_own(made: Made) -> None:
    made.pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=1)
    made.work()
    assert made.states == {"PRUNED": 6}
    assert all(sorted(trial.intermediate_values) == [0, 1] for trial in made.stored)


def test_a_diverged_trial_is_pruned_with_the_worst_case_and_its_neighbours_are_not(made: Made) -> None:
    space = {"learning_rate": {"low": 1e-3, "high": 1e3, "scale": "log"}}
    wild = parse_spec({"name": "wild", "data": {"dataset": "tests.toy_data:blobs"}, "space": space})
    made.objective = KerasObjective(made.objective.dataset, epochs=EPOCHS, space=wild.space)
    made.spec = dataclasses.replace(made.spec, space=wild.space)
    made.work()
    assert {trial.state for trial in made.stored} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in made.stored:
        assert (trial.state == TrialState.PRUNED) == trial.user_attrs.get("diverged", False)
        assert (trial.state == TrialState.PRUNED) == (trial.params["learning_rate"] > 1)


@EVERY_DATABASE
def test_a_stopped_worker_hands_back_and_another_goes_on_from_its_checkpoints(
    made: Made, checkpoints: CheckpointStore, tmp_path: Path
) -> None:
    stop = threading.Event()
    made.options = {"checkpoints": checkpoints, "stop": stop}
    made.work(lambda epoch, _: stop.set() if epoch == 2 else None)
    assert set(made.states) == {"WAITING"}
    begun = [trial for trial in made.stored if trial.intermediate_values]
    assert [len(trial.intermediate_values) for trial in begun] == [3] * (1 if isinstance(made.plan, SoloPlan) else 2)
    assert checkpoints.numbers() == [trial.number for trial in begun]
    made.options = {"checkpoints": checkpoints}
    made.reopen()
    assert sum(made.work().sizes) == 6 * EPOCHS - 3 * len(begun)
    assert made.states == {"COMPLETE": 6}
    assert checkpoints.numbers() == []
    whole = elsewhere(made, tmp_path / "whole.db")
    whole.work()
    for resumed, straight in zip(made.stored, whole.stored, strict=True):
        assert resumed.params == straight.params
        assert resumed.user_attrs[CURVES] == straight.user_attrs[CURVES]


def test_a_trial_is_checkpointed_when_so_much_training_has_passed(made: Made, checkpoints: CheckpointStore) -> None:
    mirror, seen = Mirror(), []
    made.options = {"checkpoints": checkpoints, "mirror": mirror}
    made.search(checkpoint_s=0)

    def look(_: int, __: Any) -> None:
        seen.append(checkpoints.numbers())

    made.work(look)
    assert seen[0] == []
    assert all(seen[epoch] for epoch in (1, 2, 3))
    assert all(states[-1] == "COMPLETE" and states[:-1] == ["RUNNING"] * 3 for states in mirror.states.values())


def test_a_trial_whose_worker_died_after_its_last_epoch_only_ends(made: Made, checkpoints: CheckpointStore) -> None:
    networks = Networks()
    made.search(trials=1)

    stop = threading.Event()
    made.options = {"checkpoints": checkpoints, "networks": networks, "stop": stop}
    made.work(lambda epoch, _: stop.set() if epoch == EPOCHS - 2 else None)
    made.reopen()
    lanes = checkpoints.load(0)
    assert lanes is not None
    state = {**lanes.state, "lane/epoch": lanes.state["lane/epoch"] + 1, "best/epoch": lanes.state["best/epoch"] + 1}
    curves = {name: [*curve, curve[-1] + 0.01] for name, curve in lanes.notes["curves"].items()}
    checkpoints.save(0, dataclasses.replace(lanes, epochs=EPOCHS, state=state, notes={**lanes.notes, "curves": curves}))
    made.options = {"checkpoints": checkpoints, "networks": networks}
    assert made.work().epochs == []
    assert made.states == {"COMPLETE": 1}
    assert networks.saved == {0: EPOCHS}


@EVERY_DATABASE
def test_a_trial_that_another_worker_took_is_left_to_it_and_the_others_stay(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)

    def take_one(epoch: int, _: Any) -> None:
        if epoch == 1:
            expire(made.storage, 1)
            other = open_storage(made.storage.url, owner=new_owner())
            tickets = claim_tickets(other, made.study._study_id, n=1, budget=6, lease_s=30, retries=2)
            assert not isinstance(tickets, str)
            open_study(other, "toy").tell(tickets[0].number, 0.75)

    made.work(take_one)
    assert made.states == {"COMPLETE": 6}
    assert made.stored[0].value == 0.75
    assert sorted(trial.number for trial in made.ended) == [1, 2, 3, 4, 5]
    assert "Trial 0 is left alone" in caplog.text


@EVERY_DATABASE
def test_a_trial_that_was_handed_back_meanwhile_takes_nothing_from_its_late_owner(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)

    def lose(epoch: int, _: Any) -> None:
        if epoch == 1:
            with made.storage.engine.begin() as connection:  # as another worker's claim does with an expired trial
                tables = optuna_tables()
                connection.execute(tables.trials.update().values(state=TrialState.WAITING))
                connection.execute(tables.system_attributes.delete())

    made.work(lose)
    assert made.states == {"COMPLETE": 6}
    assert all(sorted(trial.intermediate_values) == list(range(EPOCHS)) for trial in made.stored)


@EVERY_DATABASE
@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_a_trial_ended_from_outside_keeps_its_end_and_is_replaced(
    made: Made, epoch: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)

    def fail_one(number: int, _: Any) -> None:
        if number == epoch:
            with made.storage.engine.begin() as connection:
                connection.execute(sqlalchemy.text("UPDATE trials SET state = 'FAIL' WHERE number = 0"))

    made.work(fail_one)
    assert made.states == {"COMPLETE": 6, "FAIL": 1}
    assert made.stored[0].state == TrialState.FAIL
    assert "ended from outside" in caplog.text


@pytest.mark.parametrize("where", ["sampler", "network", "epoch", "pruner"])
def test_what_raises_fails_its_trial_alone_and_the_retry_runs(where: str, made: Made) -> None:
    def fail(number: int, lanes: Sequence[LaneSpec] = ()) -> None:
        culprits = {lane.seed for lane in lanes if lane.hyperparameters["units"] == 5}
        if culprits and culprits - mended:
            mended.update(culprits if len(lanes) == 1 else ())
            raise KeyError("a mistake of the user's")

    class Failing(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
            if trial.number == 0:
                raise KeyError("a mistake of the user's")
            return False

    mended: set[int] = set()
    made.study.enqueue_trial({"learning_rate": 0.1, "depth": 1, "units": 5})
    if where == "sampler":
        make, calls = make_sampler_factory(made.spec.search, made.spec.space, seed=0), iter([True])

        def make_sampler(number: int, study: optuna.Study) -> optuna.samplers.BaseSampler:
            if next(calls, False):
                raise KeyError("a mistake of the user's")
            return make(number, study)

        made.options = {"make_sampler": make_sampler}
    if where == "pruner":
        made.pruner = Failing()
    made.work(**({"act": fail} if where == "epoch" else {"refuse": fail} if where == "network" else {}))
    failed = [trial for trial in made.stored if trial.state == TrialState.FAIL]
    assert made.states["COMPLETE"] == 6
    assert failed[0].number == 0
    assert all(trial.user_attrs["fail_reason"] == 'KeyError: "a mistake of the user\'s"' for trial in failed)


@pytest.mark.parametrize("where", ["sampler", "network"])
def test_a_study_that_fails_again_and_again_stops_the_worker(where: str, made: Made) -> None:
    def fail(_: int, lanes: Sequence[LaneSpec] = ()) -> Any:
        raise KeyError("a mistake of the user's")

    if where == "sampler":
        made.options = {"make_sampler": fail}
    with pytest.raises(FatalError, match="5 trials in a row failed, the last with: KeyError"):
        made.work(**({"refuse": fail} if where == "network" else {}))
    assert set(made.states) <= {"FAIL", "WAITING"}


def test_what_is_wrong_with_one_draw_costs_its_trial_and_what_is_wrong_with_the_study_ends_the_worker(
    made: Made,
) -> None:
    errors: list[Exception] = [SpaceError("units of 0"), SpecError("no such network")]

    def refuse(number: int, lanes: Sequence[LaneSpec]) -> None:
        if len(lanes) == 1 and number > 1 and errors:
            raise errors.pop(0)

    made.plan = PairPlan(size=1, most_in_hand=made.plan.most_in_hand)
    with pytest.raises(SpecError, match="no such network"):
        made.work(refuse=refuse)
    assert made.states["FAIL"] == 1
    assert "RUNNING" not in made.states


def test_enqueued_values_outside_the_space_cost_their_trials_alone(made: Made) -> None:
    made.search(trials=2)
    for given in ({"units": 0}, {"units": 4.5}, {"unit": 4}, {"depth": 9}, {"depth": "deep"}, {"units": 5}):
        made.study.enqueue_trial(given)
    made.work()
    assert made.states == {"FAIL": 5, "COMPLETE": 2}
    *failed, fine, _ = made.stored
    assert fine.params["units"] == 5
    assert [trial.user_attrs[FAIL_REASON] for trial in failed] == [
        "units must be a whole number from 4 to 8 in this space, but was given as 0.",
        "units must be a whole number from 4 to 8 in this space, but was given as 4.5.",
        "This space draws no 'unit'. Did you mean 'units'? Allowed: learning_rate, depth, units.",
        "depth must be a whole number from 1 to 2 in this space, but was given as 9.",
        "depth must be a whole number from 1 to 2 in this space, but was given as 'deep'.",
    ]


@EVERY_DATABASE
def test_a_deleted_study_stops_the_worker(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)
    with pytest.raises(FatalError, match="The study was deleted while it ran"):
        made.work(lambda _, __: optuna.delete_study(study_name="toy", storage=made.storage))


def test_a_trial_that_meets_a_locked_database_when_it_is_drawn_is_drawn_again(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    make, calls = make_sampler_factory(made.spec.search, made.spec.space, seed=0), iter([True])

    def make_sampler(number: int, study: optuna.Study) -> optuna.samplers.BaseSampler:
        if next(calls, False):
            raise outage("database is locked", sqlite3.SQLITE_BUSY)
        return make(number, study)

    made.options = {"make_sampler": make_sampler}
    made.work()
    assert made.states == {"COMPLETE": 6}
    assert "Could not draw trial 0, since the study's database is busy (database is locked)" in caplog.text


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


def test_the_best_trials_network_is_saved_as_it_was_at_its_best_epoch(made: Made) -> None:
    networks = Networks()
    made.options = {"networks": networks}
    made.work()
    assert networks.saved[made.study.best_trial.number] == EPOCHS
    assert len(networks.saved) < 6


def test_out_of_time_what_has_begun_is_finished_and_the_rest_handed_back(made: Made) -> None:
    share_done = threading.Event()
    made.options = {"share_done": share_done}
    made.work(lambda epoch, _: share_done.set() if epoch == 1 else None)
    n = 1 if isinstance(made.plan, SoloPlan) else 2
    assert made.states["COMPLETE"] == n
    assert all(trial.state == TrialState.WAITING and not trial.params for trial in made.stored[n:])


def test_a_worker_alone_with_one_trial_shows_its_sampler_every_result(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    make = make_sampler_factory(made.spec.search, made.spec.space, seed=0)

    def make_sampler(number: int, study: optuna.Study) -> optuna.samplers.BaseSampler:
        sampler = make(number, study)
        original = sampler.infer_relative_search_space

        def infer(study: optuna.Study, trial: FrozenTrial) -> Any:
            seen.append(sum(other.state == TrialState.COMPLETE for other in study.get_trials(deepcopy=False)))
            return original(study, trial)

        monkeypatch.setattr(sampler, "infer_relative_search_space", infer)
        return sampler

    made.options = {"make_sampler": make_sampler}
    made.work()
    assert seen == (list(range(6)) if isinstance(made.plan, SoloPlan) else [0] * 6)


@pytest.fixture
def promoting(made: Made, checkpoints: CheckpointStore) -> Made:
    """A study of ten trials that are judged after one epoch and after two, of four; few of them are in hand at once."""
    made.search(trials=10, pruner="promotion", pruner_options={"reduction": 2, "min_epochs": 1})
    made.plan = PairPlan(size=made.plan.most_in_hand if made.plan.most_in_hand == 1 else 2, most_in_hand=4)
    made.options = {"checkpoints": checkpoints}
    return made


def assert_whole(made: Made) -> None:
    """Every trial of the budget has ended, its curve has no gap, and nothing is left of those that were parked."""
    assert set(made.states) <= {"COMPLETE", "PRUNED"}
    assert sum(made.states.values()) == made.spec.search.trials
    for trial in made.stored:
        n_epochs = len(trial.intermediate_values)
        assert sorted(trial.intermediate_values) == list(range(n_epochs))
        assert n_epochs in ((EPOCHS,) if trial.state == TrialState.COMPLETE else (1, 2))
        curve = trial.user_attrs[CURVES]["val_accuracy"]
        assert curve == list(trial.intermediate_values.values())
        assert curve == pytest.approx([curve[0] + accuracy(0, epoch) for epoch in range(n_epochs)])
        if trial.state == TrialState.PRUNED:
            assert trial.value == trial.intermediate_values[n_epochs - 1]
    assert made.options["checkpoints"].numbers() == []
    assert PAUSED not in {key for trial in made.stored for key in trial.system_attrs}


@EVERY_DATABASE
def test_promoted_trials_go_on_where_they_were_parked_and_the_budget_is_exact(promoting: Made) -> None:
    mirror = Mirror()
    promoting.options["mirror"] = mirror
    trainers = promoting.work()
    assert_whole(promoting)
    assert sorted(trial.number for trial in promoting.ended) == list(range(10))
    assert sum(trainers.sizes) == sum(len(trial.intermediate_values) for trial in promoting.stored)
    parked = {number: states for number, states in mirror.states.items() if states[0] == "RUNNING"}
    assert len(parked) > 2
    assert all(states[-1] in ("COMPLETE", "PRUNED") for states in mirror.states.values())
    assert any(promoting.stored[number].state == TrialState.COMPLETE for number in parked)


def test_at_the_end_the_best_of_a_rung_goes_on_whatever_its_share(promoting: Made) -> None:
    promoting.search(trials=1)
    promoting.work()
    assert promoting.states == {"COMPLETE": 1}


def test_a_trial_whose_worker_died_before_it_was_parked_does_not_train_on(
    promoting: Made, checkpoints: CheckpointStore
) -> None:
    class DyingCheckpoints(NoCheckpoints):
        def save(self, number: int, checkpoint: Checkpoint, *, keep: int = 2) -> None:
            checkpoints.save(number, checkpoint, keep=keep)
            raise Killed

    promoting.options = {"checkpoints": DyingCheckpoints()}
    with pytest.raises(Killed):
        promoting.work()
    (number,) = checkpoints.numbers()
    for trial in promoting.stored:
        expire(promoting.storage, trial._trial_id)
    promoting.reopen()
    promoting.options = {"checkpoints": checkpoints}
    trainers = promoting.work()
    assert trainers.epochs[0][0].seed != trial_seed(promoting.objective.seed, number, "training")
    assert_whole(promoting)


@pytest.mark.parametrize("sync_s", [0.0, 3600.0])
def test_workers_killed_between_rungs_leave_an_exact_budget(
    promoting: Made, monkeypatch: pytest.MonkeyPatch, sync_s: float
) -> None:
    promoting.search(retries=3)
    monkeypatch.setattr(worker_module, "SYNC_S", sync_s)
    for lifetime in (2, 3, 4):

        def kill(epoch: int, _: Any, last: int = lifetime) -> None:
            if epoch == last:
                raise Killed

        with pytest.raises(Killed):
            promoting.work(kill)
        for trial in promoting.stored:
            if trial.state == TrialState.RUNNING:
                expire(promoting.storage, trial._trial_id)
        promoting.reopen()
    promoting.work()
    assert_whole(promoting)


def test_few_trials_are_parked_and_the_least_hopeful_are_told_pruned(
    promoting: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.worker.promoter.MAX_PARKED", 1)
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)
    parked: list[int] = []

    def count(_: int, __: Any) -> None:
        parked.append(sum(PAUSED in trial.system_attrs for trial in promoting.stored))

    promoting.work(count)
    assert max(parked) == 1
    assert_whole(promoting)


def test_a_death_is_blamed_on_what_trained_and_not_on_all_that_was_planned(made: Made) -> None:
    def die(_: int, __: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        made.work(die)
    for trial in made.stored:
        expire(made.storage, trial._trial_id)
    made.reopen()
    sizes = made.work().sizes
    n = 1 if isinstance(made.plan, SoloPlan) else 2
    assert made.states == {"COMPLETE": 6}
    assert sum(DEATHS in trial.system_attrs for trial in made.stored) == n
    assert sizes[: n * EPOCHS] == [1] * n * EPOCHS  # each alone


def test_a_network_that_kills_its_worker_when_it_is_built_is_to_blame(made: Made) -> None:
    def die(_: int, __: Any) -> None:
        raise Killed

    made.search(retries=0)
    with pytest.raises(Killed):
        made.work(refuse=die)
    for trial in made.stored:
        expire(made.storage, trial._trial_id)
    made.reopen()
    made.work()
    failed = [trial for trial in made.stored if trial.state == TrialState.FAIL]
    assert [trial.number for trial in failed] == ([0] if isinstance(made.plan, SoloPlan) else [0, 1])


class OddPruner(optuna.pruners.BasePruner):
    """Prunes every second trial after two epochs."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.number % 2 == 1 and trial.last_step == 1


@pytest.fixture
def thinned(fleets: Made) -> Made:
    """Eight trials in fleets of two, of which pruning leaves half after two of four epochs."""
    fleets.search(trials=8)
    fleets.pruner = OddPruner()
    return fleets


@pytest.mark.parametrize(("regroups", "sizes"), [(True, [2] * 12), (False, [2, 2, 1, 1] * 4)])
def test_survivors_of_thinned_fleets_train_on_together_where_they_are_cheap(
    thinned: Made, regroups: bool, sizes: list[int]
) -> None:
    thinned.plan = PairPlan(regroups=regroups)
    assert thinned.work().sizes == sizes
    assert thinned.states == {"COMPLETE": 4, "PRUNED": 4}
    for trial in thinned.stored:
        assert sorted(trial.intermediate_values) == list(range(EPOCHS if trial.number % 2 == 0 else 2))


def test_a_worker_stopped_while_survivors_wait_keeps_their_epochs(thinned: Made, checkpoints: CheckpointStore) -> None:
    stop = threading.Event()
    thinned.options = {"checkpoints": checkpoints, "stop": stop}
    thinned.work(lambda epoch, _: stop.set() if epoch == 4 else None)
    reports = {t.number: len(t.intermediate_values) for t in thinned.stored if not t.state.is_finished()}
    assert reports == {0: 2, 2: 2, 4: 1, 5: 1, 6: 0, 7: 0}
    assert checkpoints.numbers() == [0, 2, 4, 5]
    thinned.options = {"checkpoints": checkpoints}
    thinned.reopen()
    thinned.work()
    assert thinned.states == {"COMPLETE": 4, "PRUNED": 4}
    assert all(len(trial.user_attrs[CURVES]["loss"]) == EPOCHS for trial in thinned.stored if trial.number % 2 == 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_without_trials_gets_fleets_that_another_has_not_begun(
    fleets: Made, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Whether the study file counts it or it has joined."""
    fleets.search(workers=workers)
    fleets.plan = PairPlan(size=1, most_in_hand=6)
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)
    monkeypatch.setattr("caviar.worker.in_flight.trials_to_take", lambda _, *, in_hand, **__: 0 if in_hand else 6)
    other_storage = open_storage(str(fleets.storage.url), owner=new_owner())
    taken: list[int] = []

    def take(epoch: int, _: Any) -> None:
        if epoch > 2:
            return
        tickets = claim_tickets(other_storage, fleets.study._study_id, n=9, budget=6, lease_s=30.0, retries=2)
        if isinstance(tickets, str):
            assert tickets == "wait"
            return
        other = open_study(other_storage, "toy")
        for ticket in tickets:
            other.tell(ticket.number, 0.5)
            taken.append(ticket.number)

    fleets.work(take)
    assert taken[:3] == [3, 4, 5]  # those that would have begun last
    assert fleets.states == {"COMPLETE": 6}
    assert sorted([*taken, *(trial.number for trial in fleets.ended)]) == list(range(6))


def test_the_best_trial_has_its_network_where_an_equal_one_of_a_higher_number_ended_first(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "accuracy", lambda _seed, _epoch: 0.5)
    networks, share_done = Networks(), threading.Event()
    other_storage = open_storage(made.storage.url, owner=new_owner())
    first = claim_ticket(other_storage, made.study._study_id, budget=6, lease_s=30.0, retries=2)
    assert isinstance(first, Ticket)
    made.options = {
        "networks": networks,
        "share_done": share_done,
        "on_trial": lambda trial: share_done.set() if trial.number == 5 else None,
    }
    made.work()
    assert made.study.best_trial.number == 1
    hand_back(other_storage, first.trial_id)
    made.options = {"networks": networks}
    made.work()
    assert made.study.best_trial.number == 0
    assert sorted(networks.saved) == [0, 1]


@pytest.mark.slow
def test_both_trainers_give_the_same_trials_and_save_the_best_network(
    spec: StudySpec, objective: KerasObjective, tmp_path: Path
) -> None:
    crews: dict[str, Callable[[], Any]] = {
        "solo": lambda: solo_crew(objective),
        "fleet": lambda: fleet_crew(objective, cost=TYPICAL, memory_bytes=1 << 30),
    }
    spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, trials=3))
    found = []
    for name, make in crews.items():
        made = Made(open_storage(f"sqlite:///{tmp_path / name}.db", owner=new_owner(), create=True), spec, objective)
        folder = NetworkFolder(tmp_path / name, tmp_path / "artifacts", validation=objective.dataset.validation)
        made.options = {"networks": folder, "checkpoints": CheckpointStore(tmp_path / f"{name}-checkpoints")}
        crew = make()
        made.work_with(crew)
        assert made.states == {"COMPLETE": 3}
        assert (tmp_path / name / f"{made.study.best_trial.number}.keras").exists()
        assert crew.timings.trials == 3
        assert crew.timings.training_s > 0
        assert crew.timings.compile_s > 0
        found.append(made.stored)
    for alone, lane in zip(*found, strict=True):
        assert alone.params == lane.params
        assert alone.user_attrs[CURVES]["loss"] == pytest.approx(lane.user_attrs[CURVES]["loss"], rel=1e-4)
