"""Giving trials up: back to the study for any worker to go on with, or ended as FAIL."""

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from ..attributes import DEATHS, ENQUEUED, FAIL_REASON, FAILED_TRIAL, OWNER, RETRY_HISTORY
from ..interventions import was_changed
from ..optuna_private import id_of_trial, optuna_tables
from . import schema
from .leased_storage import LeasedStorage, set_attribute
from .leases import LeaseCheck, LeaseLost, release_leases, renew_leases
from .overview import count_states


def hand_back(storage: LeasedStorage, trial_id: int) -> bool:
    """Give a running trial back, with its number, parameters and reports, so that any worker may go on with it.

    Returns:
        Whether it ran, and was this worker's to give.

    Raises:
        LeaseLost: If another worker owns the trial.
    """
    check = hand_back_many(storage, [trial_id])
    if check.lost:
        raise LeaseLost(f"the trial is no longer held by this worker ({storage.owner})")
    return trial_id in check.held


def hand_back_many(storage: LeasedStorage, trial_ids: Collection[int]) -> LeaseCheck:
    """Give running trials back in one transaction, as ``hand_back`` does with one.

    Args:
        storage: The worker's storage.
        trial_ids: Optuna's ids of the trials.

    Returns:
        What became of them: those that were ``held`` are given back, the others are left alone.

    Raises:
        StorageInternalError: If the database cannot be written; none is given back then.
    """
    with schema.transaction(storage.engine) as connection:
        schema.take_write_lock(connection)
        check = renew_leases(connection, trial_ids, storage.owner)
        put_back(connection, check.held)
    return check


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

    Both happen in one transaction: between them another worker could take the freed place in the budget. A trial that
    was changed by hand is not queued anew: nobody would be there to change it again.

    Args:
        storage: The worker's storage, which holds the trial's lease.
        trial: The trial, with what it holds now.
        reason: Why, in one line; kept in its user attribute ``fail_reason``.
        retries: Retries that one trial of the budget has.

    Returns:
        Whether a retry was queued.

    Raises:
        LeaseLost: If another worker owns the trial.
    """
    tables = optuna_tables()
    history = [*trial.system_attrs.get(RETRY_HISTORY, []), trial.number]
    with storage.owned(id_of_trial(trial), claims=True) as connection:
        _fail(connection, id_of_trial(trial), reason)
        if len(history) > retries or was_changed(trial.user_attrs):
            return False
        study_id = connection.execute(
            sqlalchemy.select(tables.trials.c.study_id).where(tables.trials.c.trial_id == id_of_trial(trial))
        ).scalar_one()
        number = sum(count_states(connection, study_id).values())
        retry_id = connection.execute(
            tables.trials.insert().values(study_id=study_id, number=number, state=TrialState.WAITING)
        ).inserted_primary_key[0]  # type: ignore[index]  # SQLAlchemy types it optional, an insert always has it
        copy_params(connection, id_of_trial(trial), retry_id)
        given = {ENQUEUED: trial.system_attrs[ENQUEUED]} if ENQUEUED in trial.system_attrs else {}
        for key, value in {FAILED_TRIAL: history[0], RETRY_HISTORY: history, **given}.items():
            set_attribute(connection, tables.system_attributes, retry_id, key, value)
    return True


def hand_back_expired(storage: LeasedStorage, study_id: int, *, lease_s: float, retries: int) -> None:
    """Hand back every running trial whose lease has expired, as a claim would, without claiming one.

    Args:
        storage: Any worker's storage.
        study_id: Optuna's id of the study.
        lease_s: Seconds without a renewal after which a running trial is handed back, above 0.
        retries: Deaths of its worker that a trial survives; one more, and it becomes FAIL.
    """
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        put_back_expired(connection, study_id, lease_s=lease_s, retries=retries)


def put_back_expired(
    connection: sqlalchemy.Connection,
    study_id: int,
    *,
    lease_s: float,
    retries: int,
    keeping: Collection[int] = (),
) -> None:
    """Hand back, in a claim's transaction, every running trial whose lease has expired.

    A death is blamed on a trial only if that had begun, that is, has a parameter or a report in the database: those
    that a killed fleet had claimed and not begun are innocent.

    Args:
        connection: In a transaction that ``schema.begin_claim`` began.
        study_id: Optuna's id of the study.
        lease_s: Seconds without a renewal after which a running trial is handed back, above 0.
        retries: Deaths of its worker that a trial survives; one more, and it becomes FAIL.
        keeping: Trials that are left alone all the same.
    """
    attributes = optuna_tables().system_attributes
    given = set(expired_trials(connection, study_id, lease_s=lease_s)) - set(keeping)
    if not given:
        return
    deaths = read_attributes(connection, given, DEATHS)
    for trial_id in sorted(_begun(connection, given)):
        died = 1 + deaths.get(trial_id, 0)
        set_attribute(connection, attributes, trial_id, DEATHS, died)
        if died > retries:
            _fail(connection, trial_id, f"Its worker died {died} times.")
            given.discard(trial_id)
    put_back(connection, given)


def expired_trials(connection: sqlalchemy.Connection, study_id: int, *, lease_s: float) -> list[int]:
    """Return the running trials whose lease ran out, locked until the transaction ends.

    A lease that lies ahead of the clock by more than it lasts was given before the clock was put back: its owner, if it
    lived, would have renewed it since, so that it has run out too.

    The lock, which SQLite's write lock makes needless there, is on the heartbeat's row, with which every write of an
    owner begins: an owner that comes in time keeps its trial, and a late one sees that it was taken.
    """
    trials, beats = optuna_tables().trials, optuna_tables().heartbeats
    allowed, now = datetime.timedelta(seconds=lease_s), schema.database_now(connection)
    running = sqlalchemy.and_(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
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
    still = sqlalchemy.select(trials.c.trial_id).where(trials.c.trial_id.in_(candidates), running)
    return list(connection.execute(still).scalars()) if candidates else []


def put_back(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> None:
    """Make running trials wait, without an owner."""
    trials = optuna_tables().trials
    connection.execute(
        trials.update()
        .where(trials.c.trial_id.in_(sorted(trial_ids)), trials.c.state == TrialState.RUNNING)
        .values(state=TrialState.WAITING)
    )
    release_leases(connection, trial_ids)


def read_attributes(connection: sqlalchemy.Connection, trial_ids: Collection[int], key: str) -> Mapping[int, Any]:
    """Return a system attribute of those trials that have it, by Optuna's ids of the trials."""
    attributes = optuna_tables().system_attributes
    rows = connection.execute(
        sqlalchemy.select(attributes.c.trial_id, attributes.c.value_json).where(
            attributes.c.trial_id.in_(sorted(trial_ids)), attributes.c.key == key
        )
    )
    return {row.trial_id: json.loads(row.value_json) for row in rows}


def _begun(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> set[int]:
    tables = optuna_tables()
    wanted: Sequence[int] = sorted(trial_ids)
    begun: set[int] = set()
    for table in (tables.params, tables.intermediate_values):
        rows = connection.execute(sqlalchemy.select(table.c.trial_id).where(table.c.trial_id.in_(wanted)).distinct())
        begun.update(rows.scalars())
    return begun


def _fail(connection: sqlalchemy.Connection, trial_id: int, reason: str) -> None:
    tables = optuna_tables()
    connection.execute(
        tables.trials.update()
        .where(tables.trials.c.trial_id == trial_id, tables.trials.c.state.not_in(schema.FINISHED))
        .values(state=TrialState.FAIL, **schema.end_values(schema.database_now(connection)))
    )
    set_attribute(connection, tables.user_attributes, trial_id, FAIL_REASON, reason)


def copy_params(connection: sqlalchemy.Connection, source_id: int, target_id: int) -> None:
    """Give a trial another one's parameters."""
    params = optuna_tables().params
    copied = ("param_name", "param_value", "distribution_json")
    rows = sqlalchemy.select(sqlalchemy.literal(target_id), *(params.c[name] for name in copied)).where(
        params.c.trial_id == source_id
    )
    connection.execute(params.insert().from_select(["trial_id", *copied], rows))
