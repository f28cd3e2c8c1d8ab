"""The databases that storages are tested on, and what tests do with one behind its owner's back."""

from collections.abc import Collection
from typing import Literal

import pytest
import sqlalchemy

from caviar.storage import schema
from caviar.storage.handing_back import put_back
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import LeaseCheck, LeaseLost, renew_leases
from caviar.storage.tickets import Ticket, claim_tickets

DATABASES = ["sqlite", "postgresql"]
#: Runs a test on each, through its fixture `storage_url`.
EVERY_DATABASE = pytest.mark.parametrize("storage_url", DATABASES, indirect=True)


def claim_ticket(
    storage: LeasedStorage, study_id: int, *, budget: int, lease_s: float, retries: int
) -> Ticket | Literal["wait", "done"]:
    """Claim one trial, as a worker that trains one at a time does."""
    claimed = claim_tickets(storage, study_id, n=1, budget=budget, lease_s=lease_s, retries=retries)
    return claimed if isinstance(claimed, str) else claimed[0]


def expire(storage: LeasedStorage, trial_id: int) -> None:
    """Make a trial's lease an hour old, as if its worker had been killed then."""
    with storage.engine.begin() as connection:
        hour_ago = sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01' WHERE trial_id = :id")
        connection.execute(hour_ago, {"id": trial_id})


def hand_back_many(storage: LeasedStorage, trial_ids: Collection[int]) -> LeaseCheck:
    """Give running trials back that are this worker's, and say what became of each."""
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        check = renew_leases(connection, trial_ids, storage.owner)
        put_back(connection, check.held)
    return check


def hand_back(storage: LeasedStorage, trial_id: int) -> bool:
    """Give a running trial back; raise if another worker owns it."""
    check = hand_back_many(storage, [trial_id])
    if check.lost:
        raise LeaseLost(f"the trial is no longer held by this worker ({storage.owner})")
    return trial_id in check.held
