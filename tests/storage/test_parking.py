"""Trials that wait for promotion: one winner of every change, and an exact budget."""

from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.trial import TrialState
from tests.databases import hand_back

from caviar.attributes import PAUSED, RESUMED
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.control import claim_trial, release_waiting
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import take_leases
from caviar.storage.overview import count_trials, read_leases
from caviar.storage.parking import claim_parked, prune_parked
from caviar.storage.tickets import Ticket, claim_tickets


def claim(storage: LeasedStorage, study: optuna.Study, n: int) -> list[Ticket] | str:
    return claim_tickets(storage, study._study_id, n=n, budget=4, lease_s=30, retries=2)


def claim_one(storage: LeasedStorage, study: optuna.Study) -> Ticket:
    tickets = claim(storage, study, 1)
    assert not isinstance(tickets, str)
    return tickets[0]


@pytest.fixture
def parked(storage: LeasedStorage, study: optuna.Study) -> list[int]:
    """Four parked trials, the whole budget, by their ids; the last of two reports of each is 0.7."""
    tickets = claim(storage, study, 4)
    assert not isinstance(tickets, str)
    buffer = BufferedStorage(storage, study._study_id)
    for ticket in tickets:
        storage.report(ticket.trial_id, {0: 0.9, 1: 0.7})
        buffer.park(ticket.trial_id)
    assert buffer.flush().held == {ticket.trial_id for ticket in tickets}
    return [ticket.trial_id for ticket in tickets]


def test_parked_trials_have_no_owner_and_count_in_the_budget(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    assert claim(storage, study, 2) == "wait"
    assert read_leases(storage, study._study_id) == []
    for trial_id in parked:
        trial = storage.get_trial(trial_id)
        assert trial.state == TrialState.WAITING
        assert trial.system_attrs == {PAUSED: True}


def test_a_trial_resumed_by_hand_at_a_rung_goes_beyond_it_once(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    assert release_waiting(storage, parked[1])
    ticket = claim_one(storage, study)
    assert (ticket.trial_id, ticket.promoted) == (parked[1], True)
    assert not {PAUSED, RESUMED} & set(storage.get_trial(parked[1]).system_attrs)
    hand_back(storage, parked[1])
    assert not claim_one(storage, study).promoted


def test_one_trial_claimed_by_its_number_goes_beyond_its_rung(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    tickets = claim_trial(storage, study._study_id, 2)
    assert not isinstance(tickets, str)
    (ticket,) = tickets
    assert (ticket.trial_id, ticket.promoted) == (parked[2], True)
    assert PAUSED not in storage.get_trial(parked[2]).system_attrs
    assert claim_trial(storage, study._study_id, 2) == "wait"


def test_promoted_trials_run_in_the_order_asked_for_with_all_they_had(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    tickets = claim_parked(storage, study._study_id, [parked[2], parked[0]])
    assert [(ticket.trial_id, ticket.number, ticket.origin) for ticket in tickets] == [
        (parked[2], 2, 2),
        (parked[0], 0, 0),
    ]
    assert all(ticket.promoted and ticket.resumed for ticket in tickets)
    trial = storage.get_trial(parked[2])
    assert trial.state == TrialState.RUNNING
    assert PAUSED not in trial.system_attrs
    assert trial.intermediate_values == {0: 0.9, 1: 0.7}
    assert len(read_leases(storage, study._study_id)) == 2
    assert claim_parked(storage, study._study_id, parked[:1]) == []
    assert claim_parked(storage, study._study_id, []) == []


def test_of_two_claimers_at_once_one_gets_a_trial(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    others = [open_storage(str(storage.url), owner=new_owner()) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        claims = [
            pool.submit(claim_parked, other, study._study_id, [trial_id]) for trial_id in parked for other in others
        ]
    claimed = [ticket.trial_id for one in claims for ticket in one.result()]
    assert sorted(claimed) == parked


def test_given_up_they_are_pruned_with_their_last_report_and_the_study_is_done(
    storage: LeasedStorage, study: optuna.Study, parked: list[int]
) -> None:
    (promoted,) = claim_parked(storage, study._study_id, parked[3:])
    assert prune_parked(storage, study._study_id, parked) == parked[:3], "what was promoted in time stays"
    assert prune_parked(storage, study._study_id, parked) == []
    assert claim(storage, study, 1) == "wait"
    study.tell(promoted.number, 0.9)
    assert claim(storage, study, 1) == "done"
    counts = count_trials(storage, study._study_id)
    assert (counts[TrialState.COMPLETE], counts[TrialState.PRUNED]) == (1, 3)
    for trial_id in parked[:3]:
        trial = storage.get_trial(trial_id)
        assert trial.value == 0.7
        assert trial.datetime_complete is not None
        assert trial.system_attrs == {}


def test_a_worker_that_lost_its_trial_parks_nothing(storage: LeasedStorage, study: optuna.Study) -> None:
    tickets = claim(storage, study, 1)
    assert not isinstance(tickets, str)
    buffer = BufferedStorage(storage, study._study_id)
    with storage.engine.begin() as connection:
        take_leases(connection, [tickets[0].trial_id], "another:1:worker")
    buffer.park(tickets[0].trial_id)
    assert buffer.flush().lost == {tickets[0].trial_id}
    trial = storage.get_trial(tickets[0].trial_id)
    assert trial.state == TrialState.RUNNING
    assert PAUSED not in trial.system_attrs


def test_a_buffer_parks_with_what_is_pending_in_one_flush(storage: LeasedStorage, study: optuna.Study) -> None:
    tickets = claim(storage, study, 2)
    assert not isinstance(tickets, str)
    first, second = (ticket.trial_id for ticket in tickets)
    buffer = BufferedStorage(storage, study._study_id)
    buffer.hold(first)
    buffer.set_trial_intermediate_value(first, 0, 0.5)
    buffer.park(first)
    assert buffer.get_trial(first).state == TrialState.WAITING
    assert storage.get_trial(first).state == TrialState.RUNNING
    assert buffer.flush().held == {first, second}
    for trial in (storage.get_trial(first), buffer.get_trial(first)):
        assert trial.state == TrialState.WAITING
        assert trial.intermediate_values == {0: 0.5}
        assert trial.system_attrs == {PAUSED: True}
    assert buffer.own_trials == {second}
    claim_parked(storage, study._study_id, [first])
    buffer.refresh()
    assert buffer.own_trials == {first, second}
