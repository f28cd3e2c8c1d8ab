"""The worker that trains in fleets keeps every guarantee lane by lane."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from tests.databases import expire

from caviar import KerasObjective
from caviar.errors import FatalError, SpecError
from caviar.search import fleet_crew, fleet_worker, in_flight, packing
from caviar.search.best_network import NetworkFolder
from caviar.search.cost_model import TYPICAL
from caviar.search.fleet_worker import FleetWorker
from caviar.search.in_flight import count_open, trials_to_give, trials_to_take
from caviar.search.packing import Packer
from caviar.search.promoter import Promoter
from caviar.search.samplers import make_sampler_factory
from caviar.search.trial_run import CURVES
from caviar.search.worker import SoloWorker
from caviar.search.worker_setup import WorkerSetup
from caviar.spec import SearchSpec, StudySpec, parse_spec
from caviar.storage.checkpoints import CheckpointStore
from caviar.storage.database import new_owner, open_storage
from caviar.storage.handing_back import DEATHS
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.overview import count_trials
from caviar.storage.schema import optuna_tables
from caviar.storage.studies import create_study, open_study
from caviar.storage.tickets import PAUSED, Ticket, claim_tickets

SPACE = {
    "learning_rate": {"low": 1e-3, "high": 0.3, "scale": "log"},
    "depth": {"low": 1, "high": 2},
    "units": {"low": 4, "high": 8},
}
EPOCHS = 4


@pytest.fixture(scope="module")
def objective() -> KerasObjective:
    """One objective for all tests: its programs are traced once."""
    return KerasObjective("tests.toy_data:blobs", epochs=EPOCHS, space=SPACE)


@pytest.fixture
def spec() -> StudySpec:
    return parse_spec(
        {
            "name": "toy",
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": EPOCHS},
            "search": {"trials": 6, "sampler": "random", "pruner": "none"},
            "space": SPACE,
        }
    )


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec) -> optuna.Study:
    study = create_study(storage, spec, attributes={})
    study.pruner = optuna.pruners.NopPruner()  # as the study file says: a study's own is Optuna's default
    return study


@dataclasses.dataclass
class Made:
    """What a worker is made of here, to be changed before it works."""

    study: optuna.Study
    storage: LeasedStorage
    spec: StudySpec
    objective: KerasObjective
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended: list[FrozenTrial] = dataclasses.field(default_factory=list)

    def setup(self) -> WorkerSetup:
        given: dict[str, Any] = {
            "study": self.study,
            "storage": self.storage,
            "spec": self.spec,
            "objective": self.objective,
            "make_sampler": make_sampler_factory(self.spec.search, self.spec.space, seed=0),
            "mirror": None,
            "checkpoints": None,
            "networks": None,
            "stop": threading.Event(),
            "share_done": threading.Event(),
            "deadline_s": None,
            "on_trial": self.ended.append,
            "poll_s": 0.01,
        }
        return WorkerSetup(**{**given, **self.options})

    def work(self) -> FleetWorker:
        worker = FleetWorker(self.setup(), cost=TYPICAL, memory_bytes=1 << 30)
        worker.run()
        return worker


@pytest.fixture
def made(study: optuna.Study, storage: LeasedStorage, spec: StudySpec, objective: KerasObjective) -> Made:
    return Made(study, storage, spec, objective)


def states(made: Made) -> dict[str, int]:
    counts = count_trials(made.storage, made.study._study_id)
    return {state.name: count for state, count in counts.items() if count}


def stored(made: Made) -> list[FrozenTrial]:
    """What stock Optuna reads from the database."""
    return optuna.load_study(study_name="toy", storage=str(made.storage.url)).trials


def at_epoch(monkeypatch: pytest.MonkeyPatch, act: Callable[[int, Any], None]) -> None:
    """Act before every epoch of a fleet, with the number of epochs run before and its trainer."""
    from caviar.training import FleetTrainer

    original, calls = FleetTrainer.run_epoch, [0]

    def run_epoch(self: Any) -> Any:
        act(calls[0], self)
        calls[0] += 1
        return original(self)

    monkeypatch.setattr(FleetTrainer, "run_epoch", run_epoch)


def test_the_budget_is_run_and_every_trial_has_its_whole_curve(made: Made) -> None:
    worker = made.work()
    assert states(made) == {"COMPLETE": 6}
    for trial in stored(made):
        assert sorted(trial.intermediate_values) == list(range(EPOCHS))
        assert trial.value == max(trial.intermediate_values.values())
        assert set(trial.user_attrs[CURVES]) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert sorted(trial.number for trial in made.ended) == list(range(6))
    assert worker.timings.trials == 6
    assert worker.timings.training_s + worker.timings.compile_s > 0
    made.work()
    assert states(made) == {"COMPLETE": 6}


def test_fleet_and_solo_worker_give_the_same_trials(made: Made, tmp_path: Path) -> None:
    made.work()
    storage = open_storage(f"sqlite:///{tmp_path / 'solo.db'}", owner=new_owner(), create=True)
    spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, trials=2))
    solo = Made(create_study(storage, spec, attributes={}), storage, spec, made.objective)
    SoloWorker(solo.setup()).run()
    for alone, lane in zip(stored(solo), stored(made), strict=False):
        assert alone.params == lane.params
        assert alone.user_attrs[CURVES]["loss"] == pytest.approx(lane.user_attrs[CURVES]["loss"], rel=1e-4)


def test_pruning_is_the_pruners_own(made: Made) -> None:
    made.study.pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=1)
    made.work()
    assert states(made) == {"PRUNED": 6}
    assert all(sorted(trial.intermediate_values) == [0, 1] for trial in stored(made))


def test_a_diverged_lane_is_pruned_with_the_worst_case_and_its_neighbours_are_not(made: Made) -> None:
    made.study.enqueue_trial({"learning_rate": 0.3, "depth": 1, "units": 4})
    space = {**SPACE, "learning_rate": {"low": 1e-3, "high": 1e30, "scale": "log"}}
    wild = parse_spec({"name": "wild", "data": {"dataset": "tests.toy_data:blobs"}, "space": space})
    made.objective = KerasObjective(made.objective.dataset, epochs=EPOCHS, space=wild.space)
    made.spec = dataclasses.replace(made.spec, space=wild.space)
    made.work()
    ends = {trial.state for trial in stored(made)}
    assert ends == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in stored(made):
        assert (trial.state == TrialState.PRUNED) == trial.user_attrs.get("diverged", False)


def test_a_stopped_worker_hands_back_and_another_goes_on_from_its_checkpoints(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = CheckpointStore(tmp_path / "checkpoints")
    stop = threading.Event()
    made.options = {"checkpoints": checkpoints, "stop": stop}
    at_epoch(monkeypatch, lambda epoch, _: stop.set() if epoch == 2 else None)
    made.work()
    assert set(states(made)) == {"WAITING"}
    begun = [trial for trial in stored(made) if trial.params]
    assert begun
    assert all(len(trial.intermediate_values) == 3 for trial in begun)
    assert checkpoints.numbers() == [trial.number for trial in begun]
    made.options = {"checkpoints": checkpoints}
    made.storage = open_storage(str(made.storage.url), owner=new_owner())
    made.study = open_study(made.storage, "toy")
    made.work()
    assert states(made) == {"COMPLETE": 6}
    assert checkpoints.numbers() == []
    resumed = {trial.number: trial.user_attrs[CURVES]["loss"] for trial in stored(made)}
    fresh = open_storage(f"sqlite:///{tmp_path / 'whole.db'}", owner=new_owner(), create=True)
    whole = Made(create_study(fresh, made.spec, attributes={}), fresh, made.spec, made.objective)
    whole.work()
    for trial in stored(whole):
        assert resumed[trial.number] == pytest.approx(trial.user_attrs[CURVES]["loss"], rel=1e-4)


class OddPruner(optuna.pruners.BasePruner):
    """Prunes every second trial after two epochs."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.number % 2 == 1 and trial.last_step == 1


@pytest.fixture
def thinned(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Eight trials in fleets of two at most, of which pruning leaves half after two of four epochs."""
    monkeypatch.setattr(packing, "MAX_LANES", 2)
    monkeypatch.setattr(
        Packer, "plan", lambda self, lanes, traced: [[n, n + 1][: len(lanes) - n] for n in range(0, len(lanes), 2)]
    )
    made.spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, trials=8))
    made.study.pruner = OddPruner()
    return made


def test_survivors_of_thinned_fleets_train_on_together(thinned: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    at_epoch(monkeypatch, lambda _, trainer: sizes.append(trainer.n_lanes))
    thinned.work()
    assert states(thinned) == {"COMPLETE": 4, "PRUNED": 4}
    assert sizes == [2] * 12  # four fleets for two epochs, then two of their survivors
    for trial in stored(thinned):
        assert sorted(trial.intermediate_values) == list(range(EPOCHS if trial.number % 2 == 0 else 2))


def test_dear_survivors_train_on_at_once(thinned: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_crew, "REGROUP_S", 0.0)
    monkeypatch.setattr(Packer, "refill", lambda self, running, waiting, n_lanes: [])
    sizes: list[int] = []
    at_epoch(monkeypatch, lambda _, trainer: sizes.append(trainer.n_lanes))
    thinned.work()
    assert states(thinned) == {"COMPLETE": 4, "PRUNED": 4}
    assert sizes == [2, 2, 1, 1] * 4


def test_a_worker_stopped_while_survivors_wait_keeps_their_epochs(
    thinned: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, stop = CheckpointStore(tmp_path / "checkpoints"), threading.Event()
    thinned.options = {"checkpoints": checkpoints, "stop": stop}
    at_epoch(monkeypatch, lambda epoch, _: stop.set() if epoch == 4 else None)
    thinned.work()
    reports = {t.number: len(t.intermediate_values) for t in stored(thinned) if not t.state.is_finished()}
    assert reports == {0: 2, 2: 2, 4: 1, 5: 1, 6: 0, 7: 0}
    assert checkpoints.numbers() == [0, 2, 4, 5]
    thinned.options = {"checkpoints": checkpoints}
    thinned.storage = open_storage(str(thinned.storage.url), owner=new_owner())
    thinned.study = open_study(thinned.storage, "toy")
    thinned.study.pruner = OddPruner()
    thinned.work()
    assert states(thinned) == {"COMPLETE": 4, "PRUNED": 4}
    assert all(len(trial.user_attrs[CURVES]["loss"]) == EPOCHS for trial in stored(thinned) if trial.number % 2 == 0)


def test_a_lane_lost_to_another_worker_leaves_the_fleet_and_the_others_stay(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = optuna_tables()

    def take_one(epoch: int, _: Any) -> None:
        if epoch == 1:
            with made.storage.engine.begin() as connection:
                connection.execute(
                    tables.system_attributes.update()
                    .where(tables.system_attributes.c.key == "caviar:owner", tables.system_attributes.c.trial_id == 1)
                    .values(value_json='"another:1:worker"')
                )

    monkeypatch.setattr("caviar.search.fleet_worker.SYNC_S", 0.0)
    at_epoch(monkeypatch, take_one)
    stop = threading.Event()

    def count(trial: FrozenTrial) -> None:
        made.ended.append(trial)
        if len(made.ended) == 5:
            stop.set()

    made.options = {"stop": stop, "on_trial": count}
    made.work()
    assert states(made) == {"COMPLETE": 5, "RUNNING": 1}


def test_a_lane_ended_from_outside_leaves_the_fleet_and_keeps_its_end(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_one(epoch: int, _: Any) -> None:
        if epoch == 1:
            with made.storage.engine.begin() as connection:
                connection.execute(sqlalchemy.text("UPDATE trials SET state = 'FAIL' WHERE number = 0"))

    monkeypatch.setattr("caviar.search.fleet_worker.SYNC_S", 0.0)
    at_epoch(monkeypatch, fail_one)
    made.work()
    assert states(made) == {"COMPLETE": 6, "FAIL": 1}


def test_a_fleet_that_raises_is_disbanded_and_only_the_culprit_fails(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(_: int, trainer: Any) -> None:
        if any(lane.spec.network.units == 5 for lane in trainer._lanes):
            raise RuntimeError("out of memory")

    made.study.enqueue_trial({"learning_rate": 0.1, "depth": 1, "units": 5})
    made.spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, retries=0))
    at_epoch(monkeypatch, poison)
    made.work()
    failed = [trial for trial in stored(made) if trial.state == TrialState.FAIL]
    assert all(trial.params["units"] == 5 for trial in failed)
    assert failed[0].user_attrs["fail_reason"] == "RuntimeError: out of memory"
    assert states(made)["COMPLETE"] == 6


@pytest.mark.parametrize("worker", ["fleet", "solo"])
def test_enqueued_values_outside_the_space_cost_their_trials_alone(made: Made, worker: str) -> None:
    made.spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, trials=2))
    for given in ({"units": 0}, {"units": 4.5}, {"unit": 4}, {"depth": 9}, {"depth": "deep"}, {"units": 5}):
        made.study.enqueue_trial(given)
    if worker == "fleet":
        made.work()
    else:
        SoloWorker(made.setup()).run()
    assert states(made) == {"FAIL": 5, "COMPLETE": 2}
    *failed, fine, _ = stored(made)
    assert fine.params["units"] == 5
    assert [trial.user_attrs["fail_reason"] for trial in failed] == [
        "units must be a whole number from 4 to 8 in this space, but was given as 0.",
        "units must be a whole number from 4 to 8 in this space, but was given as 4.5.",
        "This space draws no 'unit'. Did you mean 'units'? Allowed: learning_rate, depth, units.",
        "depth must be a whole number from 1 to 2 in this space, but was given as 9.",
        "depth must be a whole number from 1 to 2 in this space, but was given as 'deep'.",
    ]


def test_a_fault_of_the_study_leaves_no_trial_running(made: Made) -> None:
    def make(_: int) -> optuna.samplers.BaseSampler:
        raise SpecError("the study's own fault")

    made.options = {"make_sampler": make}
    with pytest.raises(SpecError, match="own fault"):
        made.work()
    assert "RUNNING" not in states(made)


def test_a_study_that_fails_again_and_again_stops_the_worker(made: Made) -> None:
    def make(_: int) -> optuna.samplers.BaseSampler:
        raise KeyError("a mistake of the user's")

    made.options = {"make_sampler": make}
    with pytest.raises(FatalError, match="5 trials in a row failed, the last with: KeyError"):
        made.work()


def test_a_trial_whose_worker_died_trains_alone(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    made.study.enqueue_trial({"learning_rate": 0.1, "depth": 1, "units": 4})
    with made.storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (1, 'caviar:deaths', '1')"
            )
        )
    at_epoch(monkeypatch, lambda _, trainer: sizes.append(trainer.n_lanes))
    made.work()
    assert sizes[:EPOCHS] == [1] * EPOCHS
    assert states(made) == {"COMPLETE": 6}


def test_the_best_network_of_the_fleet_is_saved(made: Made, tmp_path: Path) -> None:
    made.options = {"networks": NetworkFolder(tmp_path / "networks", tmp_path / "artifacts")}
    made.work()
    best = made.study.best_trial.number
    assert (tmp_path / "networks" / f"{best}.keras").exists()


def test_out_of_time_the_fleet_ends_and_what_has_not_begun_is_handed_back(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_done = threading.Event()
    made.options = {"share_done": share_done}
    monkeypatch.setattr(fleet_crew.Crew, "_next_fleet", lambda self: self.waiting[:2])
    at_epoch(monkeypatch, lambda epoch, _: share_done.set() if epoch == 1 else None)
    made.work()
    assert states(made)["COMPLETE"] >= 2
    assert states(made)["WAITING"] >= 1


@pytest.mark.parametrize(("trials", "expected"), [(100, 6), (1000, 32), (10, 2)])
@pytest.mark.parametrize("sampler", ["tpe", "zoom", "package.module:Class"])
def test_samplers_that_learn_have_few_trials_in_flight(sampler: str, trials: int, expected: int) -> None:
    search = SearchSpec(sampler=sampler, trials=trials, workers=2)
    assert trials_to_take(search, in_hand=0, set_aside=0, left=trials, running=0) == expected
    assert trials_to_take(search, in_hand=expected, set_aside=expected, left=trials, running=expected) == 0


@pytest.mark.parametrize(
    ("in_hand", "set_aside", "left", "running", "expected"),
    [
        (0, 0, 256, 0, 128),  # the first worker takes its share
        (0, 0, 128, 128, 128),  # and the second as much
        (0, 0, 3000, 0, 256),  # no more than pays
        (0, 0, 0, 40, 4),  # with empty hands it always asks: a trial may be handed back, or promoted
        (30, 10, 0, 60, 0),  # nothing is left to take
        (3, 0, 0, 60, 1),
        (10, 8, 0, 60, 2),  # most of what it has waits for others
        (60, 0, 70, 60, 5),
    ],
)
def test_others_take_their_share_of_what_has_not_ended(
    in_hand: int, set_aside: int, left: int, running: int, expected: int
) -> None:
    search = SearchSpec(sampler="random", trials=256, workers=2)
    taken = trials_to_take(search, in_hand=in_hand, set_aside=set_aside, left=left, running=running)
    assert taken == expected


@pytest.mark.parametrize(
    ("workers", "in_hand", "unbegun", "left", "running", "idle", "expected"),
    [
        (2, 40, 30, 0, 40, 0, 20),  # the other is idle
        (2, 40, 30, 0, 52, 0, 14),  # and nearly so
        (2, 40, 5, 0, 52, 0, 5),
        (2, 40, 30, 0, 60, 0, 0),
        (2, 40, 30, 20, 40, 0, 0),  # trials are left to take
        (4, 40, 30, 0, 50, 0, 28),
        (1, 40, 30, 0, 40, 0, 0),
        (1, 40, 30, 0, 40, 1, 15),  # a worker has joined
        (1, 40, 30, 15, 40, 1, 0),  # and was given some
        (2, 40, 1, 0, 80, 2, 1),
        (2, 40, 0, 0, 80, 2, 0),
        (2, 0, 0, 0, 5, 1, 0),
    ],
)
def test_a_worker_gives_of_what_has_not_begun_to_those_that_run_out(
    workers: int, in_hand: int, unbegun: int, left: int, running: int, idle: int, expected: int
) -> None:
    search = SearchSpec(sampler="random", workers=workers)
    given = trials_to_give(search, in_hand=in_hand, unbegun=unbegun, left=left, running=running, idle=idle)
    assert given == expected


def test_trials_that_nobody_has_are_counted_with_those_handed_back_but_not_with_parked_or_failed_ones() -> None:
    def trial(state: TrialState, **attributes: object) -> FrozenTrial:
        value = 0.5 if state == TrialState.COMPLETE else None
        return optuna.trial.create_trial(state=state, value=value, system_attrs=attributes)

    trials = [
        trial(TrialState.COMPLETE),
        trial(TrialState.PRUNED),
        trial(TrialState.FAIL),
        trial(TrialState.RUNNING),
        trial(TrialState.WAITING),
        trial(TrialState.WAITING, **{PAUSED: True}),
    ]
    assert count_open(trials, budget=8) == (1 + 3, 1)
    assert count_open(trials, budget=2) == (1, 1)
    assert count_open([], budget=3) == (3, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_without_trials_gets_fleets_that_another_has_not_begun(
    made: Made, storage: LeasedStorage, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Whether the study file counts it or it has joined."""
    made.spec = dataclasses.replace(made.spec, search=dataclasses.replace(made.spec.search, workers=workers))
    monkeypatch.setattr(fleet_worker, "SYNC_S", 0.0)
    monkeypatch.setattr(fleet_worker, "trials_to_take", lambda _, *, in_hand, **__: 0 if in_hand else 6)
    monkeypatch.setattr(fleet_crew.Crew, "_next_fleet", lambda self: self.waiting[:1])
    elsewhere = open_storage(str(storage.url), owner=new_owner())
    taken: list[int] = []

    def take(epoch: int, _trainer: Any) -> None:
        if epoch > 2:
            return
        tickets = claim_tickets(elsewhere, made.study._study_id, n=9, budget=6, lease_s=30.0, retries=2)
        if isinstance(tickets, str):
            assert tickets == "wait"
            return
        other = open_study(elsewhere, "toy")
        for ticket in tickets:
            other.tell(ticket.number, 0.5)
            taken.append(ticket.number)

    at_epoch(monkeypatch, take)
    made.work()
    assert taken[:3] == [3, 4, 5]  # those that would have begun last
    assert states(made) == {"COMPLETE": 6}
    assert sorted([*taken, *(trial.number for trial in made.ended)]) == list(range(6))


class Killed(BaseException):
    """Ends a worker as SIGKILL does: nothing is flushed, handed back or cleaned up."""


class Mirror:
    """Takes the place of MLflow's: keeps what it is shown."""

    def __init__(self) -> None:
        self.states: dict[int, list[str]] = {}

    def record_many(self, records: Any) -> None:
        for record in records:
            self.states.setdefault(record.trial.number, []).append(record.trial.state.name)


@pytest.fixture
def promoting(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A study of ten trials that are judged after one epoch and after two, of four; few of them are in hand at once."""
    monkeypatch.setattr(in_flight, "_MOST_IN_HAND", 4)
    options = {"reduction": 2, "min_epochs": 1}
    search = dataclasses.replace(made.spec.search, trials=10, pruner="promotion", pruner_options=options)
    made.spec = dataclasses.replace(made.spec, search=search)
    made.options = {"checkpoints": CheckpointStore(tmp_path / "checkpoints")}
    return made


def assert_whole(made: Made) -> None:
    """Every trial of the budget has ended, its curve has no gap, and nothing is left of those that were parked."""
    assert set(states(made)) == {"COMPLETE", "PRUNED"}
    assert sum(states(made).values()) == made.spec.search.trials
    for trial in stored(made):
        n_epochs = len(trial.intermediate_values)
        assert sorted(trial.intermediate_values) == list(range(n_epochs))
        assert n_epochs in ((EPOCHS,) if trial.state == TrialState.COMPLETE else (1, 2))
        assert trial.user_attrs[CURVES]["val_accuracy"] == list(trial.intermediate_values.values())
        if trial.state == TrialState.PRUNED:
            assert trial.value == trial.intermediate_values[n_epochs - 1]
    assert made.options["checkpoints"].numbers() == []
    assert PAUSED not in {key for trial in stored(made) for key in trial.system_attrs}


def test_promoted_trials_go_on_where_they_paused_and_the_budget_is_exact(
    promoting: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[int] = []
    original = Promoter.claim

    def claim(self: Promoter, n: int, *, closing: bool = False) -> list[Ticket]:
        tickets = original(self, n, closing=closing)
        promoted.extend(ticket.number for ticket in tickets)
        return tickets

    monkeypatch.setattr(Promoter, "claim", claim)
    mirror = Mirror()
    promoting.options["mirror"] = mirror
    promoting.work()
    assert_whole(promoting)
    assert promoted
    assert sorted(trial.number for trial in promoting.ended) == list(range(10))
    for number in promoted:
        assert mirror.states[number][0] == "RUNNING"
        assert mirror.states[number][-1] in ("COMPLETE", "PRUNED")
    fresh = open_storage(f"sqlite:///{tmp_path / 'whole.db'}", owner=new_owner(), create=True)
    search = dataclasses.replace(promoting.spec.search, pruner="none", pruner_options={})
    spec = dataclasses.replace(promoting.spec, search=search)
    whole = Made(create_study(fresh, spec, attributes={}), fresh, spec, promoting.objective)
    whole.work()
    for trial, trained in zip(stored(promoting), stored(whole), strict=True):
        losses = trial.user_attrs[CURVES]["loss"]
        assert losses == pytest.approx(trained.user_attrs[CURVES]["loss"][: len(losses)], rel=1e-4)


@pytest.mark.parametrize("sync_s", [0.0, 3600.0])
def test_workers_killed_between_rungs_leave_an_exact_budget(
    promoting: Made, monkeypatch: pytest.MonkeyPatch, sync_s: float
) -> None:
    epochs: list[Any] = []

    def kill(_: int, trainer: Any) -> None:
        epochs.append(trainer)
        if len(epochs) in (2, 5, 9):
            raise Killed

    monkeypatch.setattr("caviar.search.fleet_worker.SYNC_S", sync_s)
    at_epoch(monkeypatch, kill)
    for _ in range(3):
        with pytest.raises(Killed):
            promoting.work()
        for trial in stored(promoting):
            if trial.state == TrialState.RUNNING:
                expire(promoting.storage, trial._trial_id)
        promoting.storage = open_storage(str(promoting.storage.url), owner=new_owner())
        promoting.study = open_study(promoting.storage, "toy")
    search = dataclasses.replace(promoting.spec.search, retries=3)
    promoting.spec = dataclasses.replace(promoting.spec, search=search)
    promoting.work()
    assert_whole(promoting)


def test_few_trials_are_parked_and_the_least_hopeful_are_told_pruned(
    promoting: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.search.promoter.MAX_PARKED", 1)
    monkeypatch.setattr("caviar.search.fleet_worker.SYNC_S", 0.0)
    parked: list[int] = []

    def count(_: int, __: Any) -> None:
        parked.append(sum(PAUSED in trial.system_attrs for trial in stored(promoting)))

    at_epoch(monkeypatch, count)
    promoting.work()
    assert max(parked) == 1
    assert_whole(promoting)


def test_a_death_is_blamed_on_what_trained_and_not_on_all_that_was_planned(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_crew, "ANNOUNCED_S", 0.0)
    monkeypatch.setattr(packing, "MAX_LANES", 2)
    begun: list[int] = []

    def die(epoch: int, trainer: Any) -> None:
        if epoch == 0:
            begun.append(trainer.n_lanes)
            raise Killed

    with monkeypatch.context() as patch:
        at_epoch(patch, die)
        with pytest.raises(Killed):
            made.work()
    for trial in stored(made):
        expire(made.storage, trial._trial_id)
    made.storage = open_storage(str(made.storage.url), owner=new_owner())
    made.study = open_study(made.storage, "toy")
    made.study.pruner = optuna.pruners.NopPruner()
    made.work()
    assert states(made) == {"COMPLETE": 6}
    assert sum(DEATHS in trial.system_attrs for trial in stored(made)) == begun[0] <= 2


@pytest.mark.slow
def test_the_solo_worker_promotes_too(promoting: Made) -> None:
    search = dataclasses.replace(promoting.spec.search, trials=4)
    promoting.spec = dataclasses.replace(promoting.spec, search=search)
    SoloWorker(promoting.setup()).run()
    assert_whole(promoting)
    assert states(promoting)["COMPLETE"] >= 1
