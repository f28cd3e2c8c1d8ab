import dataclasses
import datetime
import threading
import time
from collections import Counter
from collections.abc import Collection

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from tests.databases import claim_ticket, expire, hand_back, hand_back_many
from tests.postgresql import Server
from tests.racing import claim_all, open_fresh, race

from caviar.attributes import DEATHS, FAIL_REASON, PAUSED
from caviar.errors import FatalError
from caviar.optuna_private import optuna_tables
from caviar.storage import schema
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.handing_back import expired_trials, fail_trial
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import LeaseLost, take_leases
from caviar.storage.overview import count_trials, read_leases, read_running
from caviar.storage.parking import prune_parked
from caviar.storage.studies import open_study
from caviar.storage.tickets import Ticket, claim_tickets


def claim(storage: LeasedStorage, study: optuna.Study, *, budget: int = 4, retries: int = 2) -> Ticket | str:
    return claim_ticket(storage, study._study_id, budget=budget, lease_s=30, retries=retries)


def claim_one(storage: LeasedStorage, study: optuna.Study, *, retries: int = 2) -> Ticket:
    ticket = claim(storage, study, retries=retries)
    assert isinstance(ticket, Ticket)
    return ticket


def finish(study: optuna.Study, ticket: Ticket, value: float = 0.5) -> None:
    study.tell(ticket.number, value)


def test_a_budget_gives_that_many_tickets(storage: LeasedStorage, study: optuna.Study) -> None:
    for number in range(4):
        ticket = claim_one(storage, study)
        assert (ticket.number, ticket.origin, ticket.resumed) == (number, number, False)
        finish(study, ticket)
    assert claim(storage, study) == "done"
    assert isinstance(claim(storage, study, budget=5), Ticket)


def test_a_budget_that_others_run_is_waited_for(storage: LeasedStorage, study: optuna.Study) -> None:
    tickets = [claim_one(storage, study) for _ in range(4)]
    assert claim(storage, study) == "wait"
    for ticket in tickets:
        finish(study, ticket)
    assert claim(storage, study) == "done"


def test_failed_trials_do_not_count(storage: LeasedStorage, study: optuna.Study) -> None:
    ticket = claim_one(storage, study)
    assert not fail_trial(storage, storage.get_trial(ticket.trial_id), reason="a reason", retries=0)
    for _ in range(4):
        finish(study, claim_one(storage, study))
    assert claim(storage, study) == "done"
    counts = count_trials(storage, study._study_id)
    assert (counts[TrialState.COMPLETE], counts[TrialState.FAIL]) == (4, 1)


def test_a_failed_trial_is_tried_anew_with_its_parameters_and_seeds(
    storage: LeasedStorage, study: optuna.Study
) -> None:
    ticket = claim_one(storage, study)
    optuna.Trial(study, ticket.trial_id).suggest_float("x", 0, 1)
    x = storage.get_trial(ticket.trial_id).params["x"]
    retries = []
    for _ in range(2):
        assert fail_trial(storage, storage.get_trial(ticket.trial_id), reason="a reason", retries=2)
        ticket = claim_one(storage, study)
        retries.append(ticket)
        assert ticket.origin == 0
        assert optuna.Trial(study, ticket.trial_id).suggest_float("x", 0, 1) == x
    assert [ticket.number for ticket in retries] == [1, 2]
    assert not fail_trial(storage, storage.get_trial(ticket.trial_id), reason="a reason", retries=2)
    trials = study.get_trials()
    assert [trial.user_attrs[FAIL_REASON] for trial in trials] == ["a reason"] * 3
    assert trials[2].system_attrs["retry_history"] == [0, 1]


def test_a_trial_handed_back_keeps_number_parameters_and_reports(storage: LeasedStorage, study: optuna.Study) -> None:
    ticket = claim_one(storage, study)
    trial = optuna.Trial(study, ticket.trial_id)
    trial.suggest_float("x", 0, 1)
    trial.report(0.25, step=0)
    started = storage.get_trial(ticket.trial_id).datetime_start
    assert hand_back(storage, ticket.trial_id)
    again = claim_one(storage, study)
    assert (again.trial_id, again.number, again.resumed) == (ticket.trial_id, 0, True)
    frozen = storage.get_trial(again.trial_id)
    assert (frozen.intermediate_values, list(frozen.params), frozen.datetime_start) == ({0: 0.25}, ["x"], started)


def test_an_expired_lease_passes_the_trial_on_and_its_late_owner_writes_nothing_more(
    storage: LeasedStorage, storage_url: str, study: optuna.Study
) -> None:
    ticket = claim_one(storage, study)
    late = optuna.Trial(study, ticket.trial_id)
    expire(storage, ticket.trial_id)
    other = open_storage(storage_url, owner=new_owner())
    taken = claim_one(other, open_study(other, study.study_name))
    assert (taken.trial_id, taken.resumed) == (ticket.trial_id, True)
    for write in (
        lambda: late.report(0.5, step=0),
        lambda: late.set_user_attr("key", 1),
        lambda: storage.set_trial_system_attr(ticket.trial_id, "key", 1),
        lambda: study.tell(late, 0.5),
        lambda: storage.renew(ticket.trial_id),
        lambda: hand_back(storage, ticket.trial_id),
        lambda: fail_trial(storage, storage.get_trial(ticket.trial_id), reason="late", retries=2),
    ):
        with pytest.raises(LeaseLost, match="no longer held by this worker"):
            write()
    frozen = other.get_trial(ticket.trial_id)
    assert (frozen.state, frozen.intermediate_values, frozen.user_attrs) == (TrialState.RUNNING, {}, {})
    other.renew(ticket.trial_id)


def test_a_trial_handed_back_but_not_yet_taken_takes_nothing_from_its_late_owner(
    storage: LeasedStorage, storage_url: str, study: optuna.Study
) -> None:
    first, second = claim_one(storage, study), claim_one(storage, study)
    for ticket in (first, second):
        expire(storage, ticket.trial_id)
    other = open_storage(storage_url, owner=new_owner())
    assert claim_one(other, open_study(other, study.study_name)).trial_id == first.trial_id
    for write in (
        lambda: storage.report(second.trial_id, {0: 0.5}),
        lambda: storage.set_trial_state_values(second.trial_id, TrialState.COMPLETE, [0.5]),
        lambda: hand_back(storage, second.trial_id),
    ):
        with pytest.raises(LeaseLost, match="no longer held by this worker"):
            write()
    assert other.get_trial(second.trial_id).state == TrialState.WAITING


def test_an_owner_that_renews_while_its_trial_is_being_claimed_loses_it_whole_or_keeps_it(
    storage: LeasedStorage, storage_url: str, study: optuna.Study
) -> None:
    ticket = claim_one(storage, study)
    expire(storage, ticket.trial_id)
    other = open_storage(storage_url, owner=new_owner())
    lost = threading.Event()

    def report() -> None:
        try:
            storage.report(ticket.trial_id, {0: 0.5})
        except LeaseLost:
            lost.set()

    with schema.transaction(other.engine) as connection:  # a claim, held open at its last statement
        schema.begin_claim(connection, study._study_id)
        assert expired_trials(connection, study._study_id, lease_s=30) == [ticket.trial_id]
        late = threading.Thread(target=report)
        late.start()
        late.join(0.3)
        assert late.is_alive()  # it waits for the claim
        take_leases(connection, [ticket.trial_id], other.owner)
    late.join()
    assert lost.is_set()
    assert other.get_trial(ticket.trial_id).intermediate_values == {}


def test_a_deleted_study_gives_no_tickets(storage: LeasedStorage, study: optuna.Study) -> None:
    claim_one(storage, study)
    optuna.delete_study(study_name=study.study_name, storage=storage)
    with pytest.raises(FatalError, match="deleted while it ran"):
        claim(storage, study)


def test_trials_are_stamped_as_optuna_does_wherever_on_earth(
    storage: LeasedStorage, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        before = datetime.datetime.now()  # noqa: DTZ005
        ticket = claim_one(storage, study)
        stray = study.ask()
        assert claim_one(storage, study).trial_id not in (ticket.trial_id, stray._trial_id)
        finish(study, ticket)
        frozen = storage.get_trial(ticket.trial_id)
        assert frozen.datetime_start is not None
        assert frozen.datetime_complete is not None
        assert before <= frozen.datetime_start <= frozen.datetime_complete <= datetime.datetime.now()  # noqa: DTZ005
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_trial_whose_workers_keep_dying_fails(storage: LeasedStorage, study: optuna.Study) -> None:
    first = claim_one(storage, study)
    optuna.Trial(study, first.trial_id).suggest_float("x", 0, 1)
    for deaths in (1, 2):
        expire(storage, first.trial_id)
        again = claim_one(storage, study)
        assert (again.trial_id, again.deaths) == (first.trial_id, deaths)
    expire(storage, first.trial_id)
    assert claim_one(storage, study).trial_id != first.trial_id
    failed = storage.get_trial(first.trial_id)
    assert (failed.state, failed.user_attrs[FAIL_REASON]) == (TrialState.FAIL, "Its worker died 3 times.")


def test_a_trial_that_had_not_begun_is_not_blamed_for_its_workers_death(
    storage: LeasedStorage, study: optuna.Study
) -> None:
    idle, reported = claim_one(storage, study), claim_one(storage, study)
    storage.report(reported.trial_id, {0: 0.5})
    for _ in range(4):
        expire(storage, idle.trial_id)
        assert claim_one(storage, study) == dataclasses.replace(idle, resumed=True)
    expire(storage, reported.trial_id)
    assert claim_one(storage, study).deaths == 1
    assert DEATHS not in storage.get_trial(idle.trial_id).system_attrs


def test_many_tickets_are_claimed_at_once_those_that_wait_first(storage: LeasedStorage, study: optuna.Study) -> None:
    def claim_many(n: int, *, budget: int = 8, keeping: Collection[int] = ()) -> list[Ticket]:
        claimed = claim_tickets(storage, study._study_id, n=n, budget=budget, lease_s=30, retries=2, keeping=keeping)
        assert isinstance(claimed, list)
        return claimed

    study.enqueue_trial({"x": 0.5})
    first = claim_many(4)
    assert [(ticket.number, ticket.origin, ticket.resumed) for ticket in first] == [
        (0, 0, True),
        (1, 1, False),
        (2, 2, False),
        (3, 3, False),
    ]
    finish(study, first[1])
    expire(storage, first[2].trial_id)
    assert [ticket.number for ticket in claim_many(1, keeping=[first[2].trial_id])] == [4]
    check = hand_back_many(storage, [first[0].trial_id, first[1].trial_id])
    assert (*check.held, *check.ended, len(check.lost)) == (first[0].trial_id, first[1].trial_id, 0)
    assert [(ticket.number, ticket.resumed) for ticket in claim_many(9)] == [
        (0, True),
        (2, True),
        (5, False),
        (6, False),
        (7, False),
    ]
    assert claim(storage, study, budget=8) == "wait"
    leases = read_leases(storage, study._study_id)
    assert {lease.owner for lease in leases} == {storage.owner}
    assert len(leases) == 7


def test_a_trial_left_running_without_a_heartbeat_is_handed_on(storage: LeasedStorage, study: optuna.Study) -> None:
    stray = study.ask()
    assert claim_one(storage, study).trial_id != stray._trial_id  # it began just now
    with storage.engine.begin() as connection:
        trials = optuna_tables().trials
        connection.execute(trials.update().values(datetime_start=None).where(trials.c.trial_id == stray._trial_id))
    assert claim_one(storage, study).trial_id == stray._trial_id


@pytest.mark.parametrize("ahead_s", [20, 3600])
def test_a_lease_from_before_the_clock_was_put_back_has_run_out(
    ahead_s: float, storage: LeasedStorage, study: optuna.Study
) -> None:
    ticket, stray = claim_one(storage, study), study.ask()
    ahead = datetime.timedelta(seconds=ahead_s)
    with storage.engine.begin() as connection:
        beats, trials = optuna_tables().heartbeats, optuna_tables().trials
        later = schema.database_now(connection) + ahead
        connection.execute(beats.update().values(heartbeat=later))
        connection.execute(trials.update().values(datetime_start=later).where(trials.c.trial_id == stray._trial_id))
    (lease,) = read_leases(storage, study._study_id)
    assert lease.expires_at(30) <= lease.read_at + datetime.timedelta(seconds=50)
    found = [trial.expired(30) for trial in read_running(storage, study._study_id)]
    again = {claim_one(storage, study).number for _ in range(2)}
    if ahead_s > 30:  # their owners would have renewed them since
        assert lease.expires_at(30) == lease.read_at
        assert (found, again) == ([True, True], {ticket.number, stray.number})
    else:
        assert (found, again) == ([False, False], {2, 3})


def test_no_trial_ends_before_it_started(storage: LeasedStorage, study: optuna.Study) -> None:
    tickets = claim_tickets(storage, study._study_id, n=4, budget=4, lease_s=30, retries=0)
    assert isinstance(tickets, list)
    buffer = BufferedStorage(storage, study._study_id)
    with storage.engine.begin() as connection:  # the clock is put back after the start
        trials = optuna_tables().trials
        later = schema.database_now(connection) + datetime.timedelta(seconds=20)
        connection.execute(trials.update().values(datetime_start=later))
    buffer.refresh()
    finish(study, tickets[0])
    fail_trial(storage, storage.get_trial(tickets[1].trial_id), reason="a test", retries=0)
    buffer.park(tickets[2].trial_id)
    buffer.flush()
    prune_parked(storage, study._study_id, [tickets[2].trial_id])
    buffer.refresh()
    buffer.set_trial_state_values(tickets[3].trial_id, TrialState.PRUNED)
    buffer.flush()
    study.enqueue_trial({"x": 0.5})
    storage.set_trial_state_values(study.trials[4]._trial_id, TrialState.FAIL)  # as the dashboard's button does
    for trial in (*study.trials, *buffer.get_all_trials(study._study_id)[:4]):
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_complete >= trial.datetime_start


def test_a_paused_trial_waits_for_promotion(storage: LeasedStorage, study: optuna.Study) -> None:
    ticket = claim_one(storage, study)
    storage.set_trial_system_attr(ticket.trial_id, PAUSED, value=True)
    hand_back(storage, ticket.trial_id)
    assert claim_one(storage, study).number == 1


def test_a_trial_ended_from_outside_takes_no_more_writes(
    storage: LeasedStorage, storage_url: str, study: optuna.Study
) -> None:
    ticket = claim_one(storage, study)
    trial = optuna.Trial(study, ticket.trial_id)
    dashboard = optuna.storages.RDBStorage(storage_url)
    dashboard.set_trial_state_values(ticket.trial_id, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError, match="Trial 0 is FAIL"):
        trial.report(0.5, step=0)
    with pytest.raises(LeaseLost, match="ended from outside: Trial 0 is FAIL"):
        storage.renew(ticket.trial_id)
    assert not hand_back(storage, ticket.trial_id)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(ticket.trial_id, TrialState.COMPLETE, [0.5])
    assert storage.get_trial(ticket.trial_id).state == TrialState.FAIL


def test_reports_keep_what_is_not_finite_and_replace_what_is_there(storage: LeasedStorage, study: optuna.Study) -> None:
    ticket = claim_one(storage, study)
    storage.report(ticket.trial_id, {0: 0.5, 1: float("inf"), 2: float("nan")})
    storage.report(ticket.trial_id, {0: 0.75})
    values = storage.get_trial(ticket.trial_id).intermediate_values
    assert (values[0], values[1]) == (0.75, float("inf"))
    assert values[2] != values[2]


def test_leases_say_who_holds_what(storage: LeasedStorage, study: optuna.Study) -> None:
    ticket = claim_one(storage, study)
    (lease,) = read_leases(storage, study._study_id)
    assert (lease.trial_id, lease.owner) == (ticket.trial_id, storage.owner)
    finish(study, ticket)
    assert read_leases(storage, study._study_id) == []


@pytest.mark.slow
def test_processes_that_open_a_fresh_postgresql_database_at_once_all_get_it(postgresql: Server) -> None:
    with postgresql.database() as url:
        assert all(race(open_fresh, url))


@pytest.mark.slow
def test_processes_that_claim_at_once_run_each_trial_once(
    storage: LeasedStorage, storage_url: str, study: optuna.Study
) -> None:
    for _ in range(30):
        study.enqueue_trial({})
    numbers = [number for mine in race(claim_all, storage_url, study.study_name) for number in mine]
    assert Counter(numbers) == Counter(range(60))
    assert count_trials(storage, study._study_id)[TrialState.COMPLETE] == 60
