import math
import threading
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from tests.databases import expire

from caviar.attributes import DEATHS, FAIL_REASON, OWNER
from caviar.errors import FatalError
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import LeaseLost
from caviar.storage.pending_writes import write_pending
from caviar.storage.studies import open_study
from caviar.storage.tickets import Ticket, claim_tickets


def claim(storage: LeasedStorage, study: optuna.Study, n: int) -> list[Ticket]:
    tickets = claim_tickets(storage, study._study_id, n=n, budget=100, lease_s=30, retries=2)
    assert isinstance(tickets, list)
    return tickets


def stored(storage: LeasedStorage, study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials as Optuna's own code reads them from the database, but for who owns them."""
    trials = RDBStorage._get_trials(storage, study._study_id, None, set(), -1)
    for trial in trials:
        trial.system_attrs.pop(OWNER, None)
    return trials


class Fleet:
    """A worker with a buffer and some trials that it claimed."""

    def __init__(self, storage: LeasedStorage, study: optuna.Study, *, n: int) -> None:
        self.storage = storage
        self.study_id = study._study_id
        self.ids = [ticket.trial_id for ticket in claim(storage, study, n)]
        self.buffer = BufferedStorage(storage, study._study_id)
        self.study = optuna.Study(study.study_name, storage=self.buffer, sampler=RandomSampler(seed=0))
        self.trials = [optuna.Trial(self.study, trial_id) for trial_id in self.ids]


@pytest.fixture
def fleet(storage: LeasedStorage, study: optuna.Study) -> Fleet:
    return Fleet(storage, study, n=3)


def tpe() -> TPESampler:
    return TPESampler(n_startup_trials=4, multivariate=True, group=True, constant_liar=True, seed=3)


def accuracy(params: dict[str, Any], step: int) -> float:
    """A curve that rises, and wobbles."""
    best = math.exp(-abs(math.log10(params["x"]) + 2)) - params["y"] / 9
    return float(best * (1 - 0.5 ** (step + params.get("depth", 0)))) + math.sin(20 * params["y"] * step) / 20


def draw(trial: optuna.Trial) -> None:
    trial.suggest_float("x", 1e-4, 1.0, log=True)
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        trial.suggest_int("depth", 1, 4)
    trial.suggest_float("y", 0, 1)


def run_lanes(study: optuna.Study, trial_ids: list[int]) -> list[tuple[Any, ...]]:
    """Draw all lanes, then report and judge them step by step; return what was decided."""
    study._thread_local.cached_all_trials = None
    lanes = [optuna.Trial(study, trial_id) for trial_id in trial_ids]
    decisions: list[tuple[Any, ...]] = []
    for lane in lanes:
        study._thread_local.cached_all_trials = None
        draw(lane)
        decisions.append((lane.number, lane.params))
    for step in range(6):
        for lane in list(lanes):
            value = accuracy(lane.params, step)
            lane.report(value, step)
            ends = TrialState.PRUNED if lane.should_prune() else TrialState.COMPLETE if step == 5 else None
            if ends is None:
                continue
            lane.set_user_attr("curves", {"loss": [value, step]})
            study.tell(lane, value if ends == TrialState.COMPLETE else None, state=ends)
            decisions.append((lane.number, step, ends))
            lanes.remove(lane)
    return decisions


RUNG = {"min_resource": 1, "reduction_factor": 3}
CASES: dict[str, tuple[Callable[[], BaseSampler], Callable[[], optuna.pruners.BasePruner]]] = {
    "halving": (tpe, lambda: optuna.pruners.SuccessiveHalvingPruner(**RUNG)),
    "hyperband": (tpe, lambda: optuna.pruners.HyperbandPruner(max_resource=6, **RUNG)),
    "median": (lambda: RandomSampler(seed=1), lambda: optuna.pruners.MedianPruner(n_startup_trials=2)),
    "percentile": (lambda: RandomSampler(seed=1), lambda: optuna.pruners.PercentilePruner(50, n_startup_trials=2)),
    "patient": (
        lambda: RandomSampler(seed=1),
        lambda: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(n_startup_trials=2), patience=1),
    ),
    "wilcoxon": (lambda: RandomSampler(seed=1), lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.3)),
    "threshold": (lambda: RandomSampler(seed=1), lambda: optuna.pruners.ThresholdPruner(lower=0.1)),
    "cmaes": (lambda: CmaEsSampler(seed=1, warn_independent_sampling=False), optuna.pruners.NopPruner),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("case", CASES)
def test_samplers_and_pruners_decide_as_in_a_storage_of_optunas(
    storage: LeasedStorage, study: optuna.Study, case: str
) -> None:
    make_sampler, make_pruner = CASES[case]
    plain = optuna.create_study(
        study_name=study.study_name,
        storage=optuna.storages.InMemoryStorage(),
        direction="maximize",
        sampler=make_sampler(),
        pruner=make_pruner(),
    )
    buffer = BufferedStorage(storage, study._study_id)
    buffered = optuna.Study(study.study_name, storage=buffer, sampler=make_sampler(), pruner=make_pruner())
    decided = []
    for _ in range(2):
        tickets = claim(storage, study, 6)
        buffer.refresh()
        decisions = run_lanes(buffered, [ticket.trial_id for ticket in tickets])
        assert buffer.flush().held == {ticket.trial_id for ticket in tickets}
        ids = [plain._storage.create_new_trial(plain._study_id) for _ in range(6)]
        plain.get_trials()
        assert decisions == run_lanes(plain, ids)
        decided += decisions
    assert case == "cmaes" or any(decision[-1] == TrialState.PRUNED for decision in decided)
    assert buffered.best_trial.number == plain.best_trial.number
    assert buffer.own_trials == frozenset()
    trials, expected = stored(storage, study), plain.get_trials()
    in_memory = buffered.get_trials()
    assert len(trials) == len(expected) == len(in_memory) == 12
    for trial, memory, other in zip(trials, in_memory, expected, strict=True):
        memory.system_attrs.pop(OWNER)
        assert memory == trial
        assert other.datetime_start is not None
        other.datetime_start, other.datetime_complete = trial.datetime_start, trial.datetime_complete
        other._trial_id = trial._trial_id
        assert trial == other


def test_writes_are_seen_at_once_and_stored_by_a_flush(fleet: Fleet) -> None:
    trial = fleet.trials[0]
    x = trial.suggest_float("x", 0, 1)
    for step, value in enumerate((0.5, math.inf, math.nan)):
        trial.report(value, step)
    trial.set_user_attr("curves", {"loss": (1, 2)})
    before = fleet.buffer.get_trial(fleet.ids[0])
    assert (before.params, before.user_attrs) == ({"x": x}, {"curves": {"loss": [1, 2]}})
    assert before.intermediate_values[1] == math.inf
    assert stored(fleet.storage, fleet.study)[0].params == {}
    fleet.study.tell(trial, 0.5)
    assert before.state == TrialState.RUNNING
    with pytest.raises(UpdateFinishedTrialError, match="Trial 0 is COMPLETE"):
        fleet.buffer.set_trial_user_attr(fleet.ids[0], "key", 1)
    assert fleet.buffer.flush().held == set(fleet.ids)
    (first, *others) = stored(fleet.storage, fleet.study)
    assert (first.state, first.value, first.params) == (TrialState.COMPLETE, 0.5, {"x": x})
    assert math.isnan(first.intermediate_values[2])
    assert [other.state for other in others] == [TrialState.RUNNING] * 2
    assert fleet.buffer.own_trials == set(fleet.ids[1:])


def test_a_held_trial_is_not_written_until_it_is_released(fleet: Fleet) -> None:
    for trial in fleet.trials[:2]:
        trial.suggest_float("x", 0, 1)
        fleet.buffer.hold(trial._trial_id)
    expire(fleet.storage, fleet.ids[0])
    assert fleet.buffer.flush().held == set(fleet.ids)
    assert [trial.params for trial in stored(fleet.storage, fleet.study)] == [{}, {}, {}]
    assert len(claim(fleet.storage, fleet.study, 1)) == 1  # the lease was renewed, so the claim creates a trial
    fleet.buffer.release(fleet.ids[0])
    fleet.buffer.flush()
    assert [len(trial.params) for trial in stored(fleet.storage, fleet.study)][:3] == [1, 0, 0]
    given = fleet.buffer.hand_back(fleet.ids)
    assert given.held == set(fleet.ids)
    states = [(trial.state, len(trial.params)) for trial in stored(fleet.storage, fleet.study)]
    assert states[:3] == [(TrialState.WAITING, 1), (TrialState.WAITING, 0), (TrialState.WAITING, 0)]
    assert [len(trial.params) for trial in fleet.study.get_trials()][:3] == [1, 0, 0]
    with pytest.raises(LeaseLost, match="not held by this worker"):
        fleet.trials[0].report(0.5, 0)


def test_lost_and_ended_trials_are_told_and_the_others_are_written(
    fleet: Fleet, storage: LeasedStorage, storage_url: str
) -> None:
    taken, failed, kept = fleet.ids
    other = open_storage(storage_url, owner=new_owner())
    expire(storage, taken)
    assert claim(other, open_study(other, fleet.study.study_name), 1)[0].trial_id == taken
    optuna.storages.RDBStorage(storage_url).set_trial_state_values(failed, TrialState.FAIL)
    for trial in fleet.trials:
        trial.report(0.5, 0)
    fleet.study.tell(fleet.trials[0], 0.5)
    for check in (fleet.buffer.renew(), fleet.buffer.flush()):
        assert (check.held, check.lost, check.ended) == (frozenset({kept}), frozenset({taken}), frozenset({failed}))
    reports = [trial.intermediate_values for trial in stored(fleet.storage, fleet.study)]
    assert reports == [{}, {}, {0: 0.5}]
    assert fleet.buffer.get_trial(taken).state == TrialState.RUNNING
    with pytest.raises(LeaseLost, match="not held by this worker"):
        fleet.trials[0].report(0.5, 1)
    with pytest.raises(UpdateFinishedTrialError, match="Trial 1 is FAIL"):
        fleet.trials[1].report(0.5, 1)
    assert fleet.buffer.flush().held == {kept}


def test_a_flush_that_fails_keeps_everything_pending(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.trials[0].report(0.5, 0)
    fleet.study.tell(fleet.trials[0], 0.5)

    def fill_disk(*arguments: Any) -> None:
        write_pending(*arguments)
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr("caviar.storage.buffered_storage.write_pending", fill_disk)
        with pytest.raises(StorageInternalError, match="disk is full"):
            fleet.buffer.flush()
    assert stored(fleet.storage, fleet.study)[0].intermediate_values == {}
    fleet.buffer.refresh()
    fleet.buffer.flush()
    first = stored(fleet.storage, fleet.study)[0]
    assert (first.state, first.intermediate_values) == (TrialState.COMPLETE, {0: 0.5})


def test_what_others_do_is_seen_after_a_refresh_and_finished_trials_are_read_once(
    fleet: Fleet, storage_url: str
) -> None:
    theirs = open_storage(storage_url, owner=new_owner())
    study = open_study(theirs, fleet.study.study_name)
    other = Fleet(theirs, study, n=2)
    for trial in other.trials:
        trial.suggest_float("x", 0, 1)
        trial.report(0.5, 0)
    other.study.tell(other.trials[0], 0.5)
    other.buffer.flush()
    study.set_user_attr("note", "a word")
    assert len(fleet.study.get_trials()) == 3
    fleet.buffer.refresh()
    assert fleet.study.get_trials()[3:] == other.study.get_trials()[3:]
    assert fleet.study.user_attrs["note"] == "a word"
    other.trials[1].report(0.75, 1)
    other.buffer.flush()
    known = fleet.buffer.get_trial(other.ids[0])
    fleet.buffer.refresh()
    assert fleet.buffer.get_trial(other.ids[1]).intermediate_values == {0: 0.5, 1: 0.75}
    assert fleet.buffer.get_trial(other.ids[0]) is known
    with pytest.raises(LeaseLost):
        fleet.buffer.set_trial_user_attr(other.ids[1], "key", 1)


def test_of_what_others_run_or_have_parked_only_what_changed_is_read_anew(fleet: Fleet, storage_url: str) -> None:
    theirs = open_storage(storage_url, owner=new_owner())
    other = Fleet(theirs, open_study(theirs, fleet.study.study_name), n=3)

    def read_anew() -> list[int]:
        """Return the places of the other worker's trials that are not the same objects after a refresh."""
        before = [fleet.buffer.get_trial(trial_id) for trial_id in other.ids]
        fleet.buffer.refresh()
        return [i for i, trial_id in enumerate(other.ids) if fleet.buffer.get_trial(trial_id) is not before[i]]

    fleet.buffer.refresh()
    assert read_anew() == []
    other.trials[0].suggest_float("x", 0, 1)
    other.trials[1].report(0.5, 0)
    other.buffer.set_trial_system_attr(other.ids[2], "key", [1])
    other.buffer.flush()
    assert read_anew() == [0, 1, 2]
    assert read_anew() == []
    assert fleet.study.get_trials()[3:] == other.study.get_trials()[3:]
    for step in (1, 2):
        other.trials[1].report(math.nan if step == 2 else 0.75, step)
    other.trials[0].report(0.25, 4)
    other.buffer.flush()
    params = fleet.buffer.get_trial(other.ids[0]).params
    assert read_anew() == [0, 1]
    assert read_anew() == []
    assert repr(fleet.study.get_trials()[3:]) == repr(other.study.get_trials()[3:])  # nan is not nan
    assert fleet.buffer.get_trial(other.ids[0]).params is params
    other.buffer.park(other.ids[1])
    other.buffer.flush()
    assert read_anew() == [1]
    assert read_anew() == []
    other.study.tell(other.trials[2], 0.5)
    other.buffer.flush()
    assert read_anew() == [2]
    expire(theirs, other.ids[0])
    (taken,) = claim(fleet.storage, fleet.study, 1)
    assert taken.trial_id == other.ids[0]
    fleet.buffer.refresh()
    assert other.ids[0] in fleet.buffer.own_trials
    fleet.buffer.set_trial_user_attr(other.ids[0], "key", "not written")
    expire(fleet.storage, other.ids[0])
    assert [ticket.trial_id for ticket in claim(theirs, fleet.study, 1)] == [other.ids[0]]
    assert fleet.buffer.flush().lost == {other.ids[0]}
    fleet.buffer.refresh()
    assert fleet.buffer.get_trial(other.ids[0]).user_attrs == {}


def test_what_a_failed_refresh_has_not_read_is_read_by_the_next(
    fleet: Fleet, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = open_storage(storage_url, owner=new_owner())
    other = Fleet(theirs, open_study(theirs, fleet.study.study_name), n=2)
    fleet.buffer.refresh()
    other.trials[0].report(0.5, 0)
    other.buffer.set_trial_system_attr(other.ids[1], "key", 1)
    other.buffer.flush()

    def fail(*_arguments: object) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("the server is gone"))

    with monkeypatch.context() as patch:
        patch.setattr("caviar.storage.buffered_storage.read_requests", fail)
        with pytest.raises(StorageInternalError, match="gone"):
            fleet.buffer.refresh()
    fleet.buffer.refresh()
    assert fleet.study.get_trials()[3:] == other.study.get_trials()[3:]


def test_what_a_fleet_leaves_goes_to_the_next_and_blames_begun_trials_alone(
    fleet: Fleet, storage: LeasedStorage, storage_url: str
) -> None:
    begun, drawn, idle = fleet.ids
    for trial in fleet.trials[:2]:
        trial.suggest_float("x", 0, 1)
    fleet.buffer.hold(drawn)
    fleet.buffer.flush()
    for trial_id in fleet.ids:
        expire(storage, trial_id)
    other = open_storage(storage_url, owner=new_owner())
    study = open_study(other, fleet.study.study_name)
    assert [ticket.deaths for ticket in claim(other, study, 3)] == [1, 0, 0]
    assert fleet.buffer.flush().lost == {begun, drawn, idle}
    assert DEATHS not in other.get_trial(idle).system_attrs


def test_a_failed_trial_is_written_and_tried_anew(fleet: Fleet) -> None:
    trial = fleet.trials[0]
    x = trial.suggest_float("x", 0, 1)
    fleet.buffer.hold(fleet.ids[0])
    assert fleet.buffer.fail(fleet.ids[0], reason="a reason", retries=1)
    failed, *_, retry = stored(fleet.storage, fleet.study)
    assert (failed.state, failed.user_attrs) == (TrialState.FAIL, {FAIL_REASON: "a reason"})
    assert (retry.state, retry.params) == (TrialState.WAITING, {"x": x})
    assert fleet.buffer.own_trials == set(fleet.ids[1:])
    assert fleet.buffer.get_trial(fleet.ids[0]).state == TrialState.FAIL


def test_incompatible_distributions_are_refused(fleet: Fleet) -> None:
    fleet.trials[0].suggest_float("x", 0, 1)
    fleet.trials[1].suggest_float("x", 0, 2)
    with pytest.raises(ValueError, match="different distribution kind"):
        fleet.trials[2].suggest_int("x", 0, 1)


def test_trials_and_studies_are_not_created_here(fleet: Fleet) -> None:
    with pytest.raises(NotImplementedError, match="use claim_tickets"):
        fleet.study.ask()
    with pytest.raises(NotImplementedError, match="database's storage"):
        optuna.create_study(storage=fleet.buffer)
    with pytest.raises(KeyError, match="holds the study 'toy' alone, not 'other'"):
        optuna.load_study(study_name="other", storage=fleet.buffer)
    with pytest.raises(KeyError, match="no trial with the id"):
        optuna.Trial(fleet.study, 999)


def test_a_deleted_study_loses_all_trials(fleet: Fleet, storage_url: str) -> None:
    optuna.delete_study(study_name=fleet.study.study_name, storage=storage_url)
    assert fleet.buffer.renew().lost == set(fleet.ids)
    for write_or_read in (fleet.buffer.flush, fleet.buffer.refresh):
        with pytest.raises(FatalError, match="deleted while it ran"):
            write_or_read()


def test_leases_are_renewed_by_a_thread_while_trials_end(fleet: Fleet) -> None:
    done, checks = threading.Event(), []

    def renew() -> None:
        while not done.is_set():
            checks.append(fleet.buffer.renew())

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for step in range(20):
            for trial in fleet.trials:
                trial.report(0.5, step)
            fleet.buffer.flush()
        for trial in fleet.trials:
            fleet.study.tell(trial, 0.5)
            fleet.buffer.flush()
    finally:
        done.set()
        thread.join()
    assert checks
    assert not any(check.lost or check.ended for check in checks)
    assert [len(trial.intermediate_values) for trial in stored(fleet.storage, fleet.study)] == [20] * 3
