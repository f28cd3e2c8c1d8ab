"""A worker or a command belongs to one study, whatever becomes of that study's name and id."""

from collections.abc import Callable

import optuna
import pytest
import sqlalchemy

from caviar.attributes import STUDY_UID
from caviar.errors import FatalError
from caviar.optuna_private import optuna_tables, stored_intermediate_value
from caviar.spec import StudySpec
from caviar.storage import schema
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.handing_back import hand_back_all
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.parking import claim_parked
from caviar.storage.studies import archive_study, check_still_there, create_study, delete_study, open_study, study_key
from caviar.storage.tickets import Ticket, claim_tickets


def claim(storage: LeasedStorage, study: optuna.Study, *, n: int = 1) -> list[Ticket]:
    tickets = claim_tickets(storage, study._study_id, n=n, budget=8, lease_s=30, retries=2)
    assert isinstance(tickets, list)
    return tickets


def archive(storage: LeasedStorage, study: optuna.Study) -> None:
    archive_study(storage, study.study_name)


def delete_as_the_dashboard_does(storage: LeasedStorage, study: optuna.Study) -> None:
    optuna.delete_study(study_name=study.study_name, storage=storage)


Removal = Callable[[LeasedStorage, optuna.Study], None]
REMOVALS = pytest.mark.parametrize("remove", [archive, delete_study, delete_as_the_dashboard_does])


def replace(storage: LeasedStorage, spec: StudySpec, remove: Removal) -> optuna.Study:
    """Have another study take the name, as a second shell does."""
    remove(storage, open_study(storage, spec.name))
    return create_study(storage, spec, attributes={STUDY_UID: "second"})


@REMOVALS
def test_a_worker_works_on_no_other_study_of_its_name(
    remove: Removal, storage: LeasedStorage, storage_url: str, spec: StudySpec
) -> None:
    first = create_study(storage, spec, attributes={STUDY_UID: "first"})
    worker = open_storage(storage_url, owner=new_owner())
    study = open_study(worker, spec.name, uid="first")
    ticket, parked = claim(worker, study, n=2)
    buffer = BufferedStorage(worker, study._study_id)
    trial = optuna.Trial(study, ticket.trial_id)
    trial.report(0.5, step=0)
    second = replace(storage, spec, remove)
    for work in (
        lambda: claim(worker, study),
        lambda: claim_parked(worker, study._study_id, [parked.trial_id]),
        lambda: check_still_there(worker, study),
        buffer.flush,
        buffer.refresh,
    ):
        with pytest.raises(FatalError, match=r"renamed to 'toy.archived-1'|deleted while it ran|archived or deleted"):
            work()
    assert second.trials == []
    again = open_study(storage, spec.name)
    ids = {ticket.trial_id for ticket in claim(storage, again, n=3)}
    with pytest.raises(Exception, match=r"renamed|archived or deleted|no longer held"):
        trial.report(0.7, step=1)
    hand_back_all(worker)
    assert {trial._trial_id for trial in again.get_trials(states=[optuna.trial.TrialState.RUNNING])} == ids
    assert all(trial.intermediate_values == {} for trial in again.trials)
    if remove is archive:
        assert {trial.state.name for trial in first.trials} == {"WAITING"}


@REMOVALS
def test_who_opens_a_study_again_is_given_no_other(remove: Removal, storage: LeasedStorage, spec: StudySpec) -> None:
    create_study(storage, spec, attributes={STUDY_UID: "first"})
    assert study_key(storage, open_study(storage, spec.name)).uid == "first"
    remove(storage, open_study(storage, spec.name, uid="first"))
    with pytest.raises(FatalError, match="'toy' that this command was begun with was archived or deleted"):
        open_study(storage, spec.name, uid="first")
    create_study(storage, spec, attributes={STUDY_UID: "second"})
    with pytest.raises(FatalError, match="run the command again"):
        open_study(storage, spec.name, uid="first")


def test_a_study_from_before_uids_is_told_from_one_with_a_uid(storage: LeasedStorage, spec: StudySpec) -> None:
    study = create_study(storage, spec, attributes={})
    assert study_key(storage, study).uid == ""
    claim(storage, open_study(storage, spec.name, uid=""))
    replace(storage, spec, archive)
    with pytest.raises(FatalError, match="archived or deleted"):
        open_study(storage, spec.name, uid="")


def test_what_a_deletion_overlooked_is_not_the_next_study_s(storage: LeasedStorage, spec: StudySpec) -> None:
    if storage.engine.dialect.name != "sqlite":
        pytest.skip("A server's foreign keys allow no such rows.")
    study = create_study(storage, spec, attributes={})
    (ticket,) = claim(storage, study)
    delete_as_the_dashboard_does(storage, study)
    tables = optuna_tables()
    with schema.transaction(storage.engine) as connection:  # a worker's report that came while Optuna deleted
        row = {"trial_id": ticket.trial_id, "step": 40, **stored_intermediate_value(0.9)}
        connection.execute(sqlalchemy.insert(tables.intermediate_values).values(row))
    second = create_study(storage, spec, attributes={})
    assert [again.trial_id for again in claim(storage, second)] == [ticket.trial_id]
    assert second.trials[0].intermediate_values == {}
