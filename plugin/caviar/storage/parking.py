"""Parked trials: WAITING with the attribute PAUSED, owned by nobody, until one is promoted or all hope is given up.

Each change is one transaction that looks at the state which it changes, so that of two workers one wins.
"""

import math
from collections.abc import Collection, Sequence

import sqlalchemy
from optuna.trial import TrialState

from ..attributes import PAUSED
from ..optuna_private import loaded_intermediate_value, optuna_tables
from . import schema
from .identity import begin_checked_claim
from .leased_storage import LeasedStorage
from .leases import remove_attribute, take_leases
from .pending_writes import PendingWrites, TrialEnd, write_pending
from .tickets import Ticket, is_parked, start_trials


def claim_parked(storage: LeasedStorage, study_id: int, trial_ids: Sequence[int]) -> list[Ticket]:
    """Set parked trials running, leased to this worker. They count in the budget as they did before.

    Returns:
        A ticket for each that was still parked, in the given order.

    Raises:
        FatalError: If the study was deleted.
        StorageInternalError: If the database cannot be written.
    """
    if not trial_ids:
        return []
    with schema.transaction(storage.engine) as connection:
        begin_checked_claim(connection, study_id, known=storage.known_studies)
        trials = optuna_tables().trials
        parked = schema.among(connection, trials.c.trial_id, trial_ids) & is_parked()
        rows = connection.execute(sqlalchemy.select(trials.c.trial_id, trials.c.number).where(parked))
        numbers = {row.trial_id: row.number for row in rows}
        chosen = [(trial_id, numbers[trial_id]) for trial_id in trial_ids if trial_id in numbers]
        tickets = start_trials(connection, chosen, promoted=True)
        started = [ticket.trial_id for ticket in tickets]
        remove_attribute(connection, started, PAUSED)
        take_leases(connection, started, storage.owner)
    storage.ever_leased.update(started)
    return tickets


def prune_parked(storage: LeasedStorage, study_id: int, trial_ids: Collection[int]) -> list[int]:
    """End parked trials as PRUNED, each with its last report as its value, as Optuna's ``tell`` has it.

    Returns:
        Those that this call ended, ascending: the others were no longer parked.

    Raises:
        FatalError: If the study was deleted.
        StorageInternalError: If the database cannot be written; none is ended then.
    """
    if not trial_ids:
        return []
    trials = optuna_tables().trials
    with schema.transaction(storage.engine) as connection:
        begin_checked_claim(connection, study_id, known=storage.known_studies)
        parked = schema.among(connection, trials.c.trial_id, trial_ids) & is_parked()
        found = sqlalchemy.select(trials.c.trial_id).where(parked).order_by(trials.c.trial_id)
        given_up = list(connection.execute(found).scalars())
        last, now = _last_reports(connection, given_up), schema.database_now(connection)
        writes = {}
        for trial_id in given_up:
            value = last.get(trial_id, math.nan)
            end = TrialEnd(state=TrialState.PRUNED, at=now, values=() if math.isnan(value) else (value,))
            writes[trial_id] = PendingWrites(end=end)
        write_pending(connection, writes)
        remove_attribute(connection, given_up, PAUSED)
    return given_up


def _last_reports(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> dict[int, float]:
    reports = optuna_tables().intermediate_values
    rows = connection.execute(
        sqlalchemy.select(reports.c.trial_id, reports.c.intermediate_value, reports.c.intermediate_value_type)
        .where(schema.among(connection, reports.c.trial_id, trial_ids))
        .order_by(reports.c.step)
    )
    return {trial_id: loaded_intermediate_value(value, kind) for trial_id, value, kind in rows}
