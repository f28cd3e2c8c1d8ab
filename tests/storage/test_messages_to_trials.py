"""What is asked of a trial, and forks, as rows of any database."""

import dataclasses

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from tests.databases import claim_ticket, hand_back

from caviar.attributes import FORKED_FROM, HELD, ORIGIN
from caviar.interventions import Request
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.control import (
    Answer,
    Standing,
    hold_waiting,
    insert_fork,
    post_request,
    read_standing,
    release_waiting,
)
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.tickets import Ticket


def claim_one(storage: LeasedStorage, study: optuna.Study) -> Ticket:
    ticket = claim_ticket(storage, study._study_id, budget=4, lease_s=30, retries=2)
    assert isinstance(ticket, Ticket)
    return ticket


def test_requests_reach_the_worker_in_order_and_its_answers_come_back(
    storage: LeasedStorage, study: optuna.Study
) -> None:
    trial_id = claim_one(storage, study).trial_id
    buffer = BufferedStorage(storage, study._study_id)
    asked = [Request(action="set", values={"learning_rate": 0.5}, who="ann"), Request(action="stop")]
    keys = [post_request(storage, trial_id, request) for request in asked]
    buffer.refresh()
    assert dict(buffer.requests(trial_id)) == dict(zip(keys, asked, strict=True))
    buffer.answer(trial_id, keys[0], asked[0], Answer(done=True, epoch=3))
    assert list(buffer.requests(trial_id)) == keys[1:]
    running = Standing(state=TrialState.RUNNING, held=False, answer=None)
    assert read_standing(storage, trial_id, keys[0]) == running
    buffer.flush()
    assert read_standing(storage, trial_id, keys[0]) == dataclasses.replace(running, answer=Answer(done=True, epoch=3))
    assert read_standing(storage, trial_id + 1, keys[0]) is None, "there is no such trial"
    study.tell(0, 0.5)
    with pytest.raises(UpdateFinishedTrialError):
        post_request(storage, trial_id, asked[0])


def test_a_held_trial_is_nobody_s_until_it_is_released(storage: LeasedStorage, study: optuna.Study) -> None:
    trial_id = claim_one(storage, study).trial_id
    assert not hold_waiting(storage, trial_id)
    hand_back(storage, trial_id)
    assert hold_waiting(storage, trial_id)
    assert read_standing(storage, trial_id, "any") == Standing(state=TrialState.WAITING, held=True, answer=None)
    assert claim_one(storage, study).number == 1
    assert release_waiting(storage, trial_id)
    assert claim_one(storage, study).trial_id == trial_id


def test_a_fork_waits_with_the_parameters_and_seeds_of_its_source(storage: LeasedStorage, study: optuna.Study) -> None:
    source = claim_one(storage, study)
    optuna.Trial(study, source.trial_id).suggest_float("x", 0, 1)
    trial = storage.get_trial(source.trial_id)
    trial_id, number = insert_fork(storage, study._study_id, trial, epoch=2, origin=source.origin, interventions=[])
    fork = storage.get_trial(trial_id)
    assert (fork.state, fork.params, fork.user_attrs[FORKED_FROM]) == (
        TrialState.WAITING,
        trial.params,
        {"trial": 0, "epoch": 2},
    )
    assert (fork.system_attrs[ORIGIN], fork.system_attrs[HELD]) == (0, True)
    assert claim_one(storage, study).number == 2  # it is held
    release_waiting(storage, trial_id)
    ticket = claim_one(storage, study)
    assert (ticket.number, ticket.origin) == (number, source.origin) == (1, 0)
