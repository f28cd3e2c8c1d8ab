"""Idle workers are seen by the others, until they find a trial or are gone."""

import datetime

import optuna
import pytest
from tests.databases import hand_back

from caviar.attributes import IDLE
from caviar.storage import idle, schema
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.tickets import Ticket, claim_tickets


def claim(storage: LeasedStorage, study: optuna.Study, *, n: int = 1) -> list[Ticket] | str:
    return claim_tickets(storage, study._study_id, n=n, budget=2, lease_s=30.0, retries=2)


def test_a_worker_that_found_nothing_is_idle_until_it_finds_a_trial(
    storage: LeasedStorage, study: optuna.Study
) -> None:
    other = open_storage(str(storage.url), owner=new_owner())
    seen = BufferedStorage(storage, study._study_id)
    assert len(claim(storage, study, n=2)) == 2
    seen.refresh()
    assert seen.n_idle == 0
    for _ in range(2):
        assert claim(other, study) == "wait"
        seen.refresh()
        assert seen.n_idle == 1
    hand_back(storage, study.trials[0]._trial_id)
    assert isinstance(claim(other, study), list)
    seen.refresh()
    assert seen.n_idle == 0


def test_who_was_idle_long_ago_is_forgotten(
    storage: LeasedStorage, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with schema.transaction(storage.engine) as connection:
        idle.note_idle(connection, study._study_id, "gone", idle=True)
    attributes = storage.get_study_system_attrs(study._study_id)
    now = datetime.datetime.fromisoformat(attributes[IDLE]["gone"])
    assert idle.count_idle(attributes, now=now + datetime.timedelta(seconds=2)) == 1
    for seconds in (4, -3600):  # long after, and after the clock was put back
        assert idle.count_idle(attributes, now=now + datetime.timedelta(seconds=seconds)) == 0
    monkeypatch.setattr(schema, "database_now", lambda _connection: now + datetime.timedelta(seconds=4))
    with schema.transaction(storage.engine) as connection:
        idle.note_idle(connection, study._study_id, "here", idle=True)
    assert list(storage.get_study_system_attrs(study._study_id)[IDLE]) == ["here"]


def test_a_worker_that_looks_often_writes_once_a_second(storage: LeasedStorage, study: optuna.Study) -> None:
    notes = []
    for _ in range(2):
        with schema.transaction(storage.engine) as connection:
            idle.note_idle(connection, study._study_id, "here", idle=True)
        notes.append(storage.get_study_system_attrs(study._study_id)[IDLE]["here"])
    assert notes[0] == notes[1]
