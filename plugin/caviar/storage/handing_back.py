"""Giving trials up: back to the study for any worker to go on with, or ended as FAIL."""

import datetime
import json
from collections.abc import Collection

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from ..attributes import DEATHS, ENQUEUED, FAIL_REASON, FAILED_TRIAL, OWNER, RETRY_HISTORY
from ..interventions import was_changed
from ..optuna_private import id_of_trial, optuna_tables
from . import schema
from .leased_storage import LeasedStorage
from .leases import read_attributes, remove_attribute, renew_leases
from .overview import count_states
from .pending_writes import PendingWrites, TrialEnd, write_pending


def hand_back_all(storage: LeasedStorage) -> None:
    """Give every running trial that this worker holds back, whatever has become of its study's name.

    Raises:
        StorageInternalError: If the database cannot be written.
    """
    trials, owners = optuna_tables().trials, optuna_tables().system_attributes
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        held = connection.execute(
            sqlalchemy.select(trials.c.trial_id)
            .join(owners, owners.c.trial_id == trials.c.trial_id)
            .where(trials.c.state == TrialState.RUNNING)
            .where(owners.c.key == OWNER, owners.c.value_json == json.dumps(storage.owner))
        ).scalars()
        put_back(connection, renew_leases(connection, list(held), storage.owner).held)


def fail_trial(storage: LeasedStorage, trial: FrozenTrial, *, reason: str, retries: int) -> bool:
    """End a trial that raised as FAIL and, while its retries last, queue it anew with the same parameters and seeds.

    Both happen in one transaction: between them another worker could take the freed place in the budget. The storage
    holds the trial's lease, and the trial is as it is stored. The reason is one line, kept in its ``fail_reason``. A
    trial that was changed by hand is not queued anew: nobody would be there to change it again.

    Returns:
        Whether a retry was queued.

    Raises:
        LeaseLost: If another worker owns the trial.
        UpdateFinishedTrialError: If it was ended from outside.
    """
    trials, trial_id = optuna_tables().trials, id_of_trial(trial)
    history = [*trial.system_attrs.get(RETRY_HISTORY, []), trial.number]
    with storage.owned(trial_id, claims=True) as connection:
        write_pending(connection, {trial_id: _failure(connection, reason)})
        if len(history) > retries or was_changed(trial.user_attrs):
            return False
        own_study = sqlalchemy.select(trials.c.study_id).where(trials.c.trial_id == trial_id)
        study_id = connection.execute(own_study).scalar_one()
        retry = PendingWrites(
            params=stored_params_of(trial), system_attributes={FAILED_TRIAL: history[0], RETRY_HISTORY: history}
        )
        if ENQUEUED in trial.system_attrs:
            retry.system_attributes[ENQUEUED] = trial.system_attrs[ENQUEUED]
        queue_trial(connection, study_id, retry)
    return True


def queue_trial(connection: sqlalchemy.Connection, study_id: int, writes: PendingWrites) -> tuple[int, int]:
    """Add a trial that waits, in a claim's transaction; return Optuna's id of it, and its number."""
    number = sum(count_states(connection, study_id).values())
    trial_id: int = connection.execute(
        optuna_tables().trials.insert().values(study_id=study_id, number=number, state=TrialState.WAITING)
    ).inserted_primary_key[0]  # type: ignore[index]  # SQLAlchemy types it optional, an insert always has it
    write_pending(connection, {trial_id: writes})
    return trial_id, number


def hand_back_expired(storage: LeasedStorage, study_id: int, *, lease_s: float, retries: int) -> None:
    """Hand back every running trial whose lease has expired, as ``put_back_expired`` does, without claiming one."""
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        put_back_expired(connection, study_id, lease_s=lease_s, retries=retries)


def put_back_expired(
    connection: sqlalchemy.Connection, study_id: int, *, lease_s: float, retries: int, keeping: Collection[int] = ()
) -> None:
    """Hand back, in a claim's transaction, every running trial whose lease has expired.

    A lease lasts for ``lease_s`` seconds after it was renewed. A trial survives ``retries`` deaths of its worker; with
    one more it becomes FAIL. A death is blamed only on trials that had begun, that is, have a parameter or a report in
    the database. Trials in ``keeping`` are left alone.
    """
    given = set(expired_trials(connection, study_id, lease_s=lease_s)) - set(keeping)
    if not given:
        return
    deaths, writes, failed = read_attributes(connection, given, DEATHS), {}, set()
    for trial_id in _begun(connection, given):
        died = 1 + deaths.get(trial_id, 0)
        writes[trial_id] = PendingWrites()
        if died > retries:
            failed.add(trial_id)
            writes[trial_id] = _failure(connection, f"Its worker died {died} times.")
        writes[trial_id].system_attributes[DEATHS] = died
    write_pending(connection, writes)
    put_back(connection, given - failed)


def expired_trials(connection: sqlalchemy.Connection, study_id: int, *, lease_s: float) -> list[int]:
    """Return the running trials whose lease ran out, locked until the transaction ends.

    A lease that lies ahead of the clock by more than it lasts was given before the clock was put back: its owner, if it
    lived, would have renewed it since, so that it has run out too. A server locks the heartbeat's row, with which every
    write of an owner begins: an owner that comes in time keeps its trial, and a late one sees that it was taken.
    """
    trials, beats = optuna_tables().trials, optuna_tables().heartbeats
    allowed, now = datetime.timedelta(seconds=lease_s), schema.database_now(connection)
    running = sqlalchemy.and_(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
    heard_at = sqlalchemy.func.coalesce(beats.c.heartbeat, trials.c.datetime_start)
    late = sqlalchemy.or_(heard_at.is_(None), ~heard_at.between(now - allowed, now + allowed))
    joined = sqlalchemy.select(trials.c.trial_id).outerjoin(beats, beats.c.trial_id == trials.c.trial_id)
    if connection.execute(joined.where(running, late).limit(1)).first() is None:
        return []  # as nearly always
    leased = connection.execute(
        sqlalchemy.select(beats.c.trial_id)
        .join(trials, trials.c.trial_id == beats.c.trial_id)
        .where(running, ~beats.c.heartbeat.between(now - allowed, now + allowed))
        .order_by(beats.c.trial_id)  # as an owner of many locks them
        .with_for_update(of=beats)
    )
    started = trials.c.datetime_start
    stray = connection.execute(
        sqlalchemy.select(trials.c.trial_id)
        .where(running, ~sqlalchemy.exists().where(beats.c.trial_id == trials.c.trial_id))
        .where(sqlalchemy.or_(started.is_(None), ~started.between(now - allowed, now + allowed)))
        .with_for_update(of=trials)
    )
    candidates = sorted({*leased.scalars(), *stray.scalars()})
    still = sqlalchemy.select(trials.c.trial_id).where(schema.among(connection, trials.c.trial_id, candidates), running)
    return list(connection.execute(still).scalars()) if candidates else []


def put_back(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> None:
    """Make running trials wait, without an owner."""
    trials = optuna_tables().trials
    connection.execute(
        trials.update()
        .where(schema.among(connection, trials.c.trial_id, trial_ids), trials.c.state == TrialState.RUNNING)
        .values(state=TrialState.WAITING)
    )
    remove_attribute(connection, trial_ids, OWNER)


def _begun(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> set[int]:
    tables = optuna_tables().params, optuna_tables().intermediate_values
    among = ((table.c.trial_id, schema.among(connection, table.c.trial_id, trial_ids)) for table in tables)
    begun = (sqlalchemy.select(trial_id).where(condition) for trial_id, condition in among)
    return set(connection.execute(sqlalchemy.union(*begun)).scalars())


def stored_params_of(trial: FrozenTrial) -> dict[str, tuple[float, BaseDistribution]]:
    """Return a trial's parameters as `PendingWrites` has them."""
    return {
        name: (distribution.to_internal_repr(trial.params[name]), distribution)
        for name, distribution in trial.distributions.items()
    }


def _failure(connection: sqlalchemy.Connection, reason: str) -> PendingWrites:
    end = TrialEnd(state=TrialState.FAIL, at=schema.database_now(connection))
    return PendingWrites(user_attributes={FAIL_REASON: reason}, end=end)
