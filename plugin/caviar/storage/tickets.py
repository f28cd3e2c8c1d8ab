"""Tickets: the right to run one trial of a study's budget, claimed under the write lock.

One transaction hands expired trials back, then claims a waiting trial or, while the budget lasts, creates one. So a
budget of N gives N finished trials, however many workers ask, die and come back.
"""

import dataclasses
import datetime
import json
from typing import Any, Literal

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from . import schema
from .leased_storage import OWNER, LeasedStorage, set_attribute, take_lease

#: How often the trial's worker died.
DEATHS = "caviar:deaths"
#: Why a trial is FAIL, in words.
FAIL_REASON = "fail_reason"
#: Marks a waiting trial that only promotion may start.
PAUSED = "caviar:paused"
#: Optuna's names for the trials that a retry stands for, oldest first.
RETRY_HISTORY = "retry_history"
FAILED_TRIAL = "failed_trial"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ticket:
    """The right to run one trial.

    Attributes:
        trial_id: Optuna's id of the trial, which is RUNNING and leased to this worker.
        number: Its number in the study.
        origin: The number that its seeds and its place in a sequence derive from: its own, or that of the first trial
            that it retries.
        resumed: Whether it ran before, so that steps may be reported already.
    """

    trial_id: int
    number: int
    origin: int
    resumed: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """Who holds a running trial, and since when it was last renewed.

    Attributes:
        trial_id: Optuna's id of the trial.
        owner: The worker: ``host:pid:token``.
        renewed_at: Naive UTC.
    """

    trial_id: int
    owner: str
    renewed_at: datetime.datetime


def claim_ticket(
    storage: LeasedStorage, study_id: int, *, budget: int, lease_s: float, retries: int
) -> Ticket | Literal["wait", "done"]:
    """Claim one trial of the budget.

    Args:
        storage: This worker's storage.
        study_id: Optuna's id of the study.
        budget: How many trials the study may have besides failed ones.
        lease_s: Seconds without a renewal after which a running trial is handed back, above 0.
        retries: Deaths of its worker that a trial survives.

    Returns:
        A ticket; ``"wait"`` when the whole budget is being run by others, who may yet hand trials back; ``"done"`` when
        the budget is spent.
    """
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        _hand_back_expired(connection, study_id, lease_s=lease_s, retries=retries)
        trials = schema.optuna_tables().trials
        trial_id = _first_waiting(connection, study_id)
        now = schema.database_now(connection)
        if trial_id is not None:
            started = sqlalchemy.func.coalesce(trials.c.datetime_start, now)
            connection.execute(
                trials.update()
                .where(trials.c.trial_id == trial_id)
                .values(state=TrialState.RUNNING, datetime_start=started)
            )
            take_lease(connection, trial_id, storage.owner)
            return _read_ticket(connection, trial_id)
        counts = _count_states(connection, study_id)
        if sum(counts.values()) - counts.get(TrialState.FAIL, 0) >= budget:
            return "wait" if counts.get(TrialState.RUNNING, 0) else "done"
        number = sum(counts.values())
        trial_id = connection.execute(
            trials.insert().values(study_id=study_id, number=number, state=TrialState.RUNNING, datetime_start=now)
        ).inserted_primary_key[0]  # type: ignore[index]  # SQLAlchemy types it optional, an insert always has it
        take_lease(connection, trial_id, storage.owner)
        return Ticket(trial_id=trial_id, number=number, origin=number, resumed=False)


def count_trials(storage: LeasedStorage, study_id: int) -> dict[TrialState, int]:
    """Return how many trials of a study are in each state, zeros included."""
    with schema.transaction(storage.engine) as connection:
        counts = _count_states(connection, study_id)
    return {state: counts.get(state, 0) for state in TrialState}


def count_epochs(storage: LeasedStorage, study_id: int) -> int:
    """Return how many epochs the trials of a study have reported, all together."""
    tables = schema.optuna_tables()
    with schema.transaction(storage.engine) as connection:
        count: int = connection.execute(
            sqlalchemy.select(sqlalchemy.func.count())
            .select_from(tables.intermediate_values)
            .join(tables.trials, tables.trials.c.trial_id == tables.intermediate_values.c.trial_id)
            .where(tables.trials.c.study_id == study_id)
        ).scalar_one()
    return count


def read_leases(storage: LeasedStorage, study_id: int) -> list[Lease]:
    """Return the leases on a study's running trials."""
    tables = schema.optuna_tables()
    owners, beats, trials = tables.system_attributes, tables.heartbeats, tables.trials
    with schema.transaction(storage.engine) as connection:
        rows = connection.execute(
            sqlalchemy.select(trials.c.trial_id, owners.c.value_json, beats.c.heartbeat)
            .join(owners, owners.c.trial_id == trials.c.trial_id)
            .join(beats, beats.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING, owners.c.key == OWNER)
        ).all()
    return [Lease(trial_id=row.trial_id, owner=json.loads(row.value_json), renewed_at=row.heartbeat) for row in rows]


def hand_back(storage: LeasedStorage, trial_id: int) -> bool:
    """Give a running trial back, with its number, parameters and reports, so that any worker may go on with it.

    Returns:
        Whether it was this worker's to give.

    Raises:
        LeaseLost: If another worker owns the trial.
    """
    tables = schema.optuna_tables()
    with storage.owned(trial_id) as connection:
        returned = connection.execute(
            tables.trials.update()
            .where(tables.trials.c.trial_id == trial_id, tables.trials.c.state == TrialState.RUNNING)
            .values(state=TrialState.WAITING)
        ).rowcount
        _release(connection, trial_id)
    return returned == 1


def fail_trial(storage: LeasedStorage, trial: FrozenTrial, *, reason: str, retries: int) -> bool:
    """End a trial that raised as FAIL and, while its retries last, queue it anew with the same parameters and seeds.

    Both happen in one transaction: between them another worker could take the freed place in the budget.

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
    tables = schema.optuna_tables()
    history = [*trial.system_attrs.get(RETRY_HISTORY, []), trial.number]
    with storage.owned(trial._trial_id) as connection:
        _fail(connection, trial._trial_id, reason)
        if len(history) > retries:
            return False
        study_id = connection.execute(
            sqlalchemy.select(tables.trials.c.study_id).where(tables.trials.c.trial_id == trial._trial_id)
        ).scalar_one()
        number = sum(_count_states(connection, study_id).values())
        retry_id = connection.execute(
            tables.trials.insert().values(study_id=study_id, number=number, state=TrialState.WAITING)
        ).inserted_primary_key[0]  # type: ignore[index]  # SQLAlchemy types it optional, an insert always has it
        _copy_params(connection, trial._trial_id, retry_id)
        for key, value in ((FAILED_TRIAL, history[0]), (RETRY_HISTORY, history)):
            set_attribute(connection, tables.system_attributes, retry_id, key, value)
    return True


def _hand_back_expired(connection: sqlalchemy.Connection, study_id: int, *, lease_s: float, retries: int) -> None:
    tables = schema.optuna_tables()
    latest = schema.database_now(connection) - datetime.timedelta(seconds=lease_s)
    alive_at = sqlalchemy.func.coalesce(tables.heartbeats.c.heartbeat, tables.trials.c.datetime_start)
    expired = connection.execute(
        sqlalchemy.select(tables.trials.c.trial_id)
        .outerjoin(tables.heartbeats, tables.heartbeats.c.trial_id == tables.trials.c.trial_id)
        .where(
            tables.trials.c.study_id == study_id,
            tables.trials.c.state == TrialState.RUNNING,
            sqlalchemy.or_(alive_at.is_(None), alive_at < latest),
        )
    ).scalars()
    for trial_id in expired.all():
        deaths = 1 + (_read_attribute(connection, trial_id, DEATHS) or 0)
        set_attribute(connection, tables.system_attributes, trial_id, DEATHS, deaths)
        if deaths > retries:
            _fail(connection, trial_id, f"Its worker died {deaths} times.")
        else:
            connection.execute(
                tables.trials.update().where(tables.trials.c.trial_id == trial_id).values(state=TrialState.WAITING)
            )
            _release(connection, trial_id)


def _first_waiting(connection: sqlalchemy.Connection, study_id: int) -> int | None:
    tables = schema.optuna_tables()
    paused = sqlalchemy.exists().where(
        tables.system_attributes.c.trial_id == tables.trials.c.trial_id, tables.system_attributes.c.key == PAUSED
    )
    first: int | None = connection.execute(
        sqlalchemy.select(sqlalchemy.func.min(tables.trials.c.trial_id)).where(
            tables.trials.c.study_id == study_id, tables.trials.c.state == TrialState.WAITING, ~paused
        )
    ).scalar_one()
    return first


def _count_states(connection: sqlalchemy.Connection, study_id: int) -> dict[TrialState, int]:
    trials = schema.optuna_tables().trials
    rows = connection.execute(
        sqlalchemy.select(trials.c.state, sqlalchemy.func.count().label("n"))
        .where(trials.c.study_id == study_id)
        .group_by(trials.c.state)
    )
    return {row.state: row.n for row in rows}


def _read_ticket(connection: sqlalchemy.Connection, trial_id: int) -> Ticket:
    trials = schema.optuna_tables().trials
    number = connection.execute(sqlalchemy.select(trials.c.number).where(trials.c.trial_id == trial_id)).scalar_one()
    history = _read_attribute(connection, trial_id, RETRY_HISTORY)
    return Ticket(trial_id=trial_id, number=number, origin=history[0] if history else number, resumed=True)


def _read_attribute(connection: sqlalchemy.Connection, trial_id: int, key: str) -> Any:
    attributes = schema.optuna_tables().system_attributes
    text = connection.execute(
        sqlalchemy.select(attributes.c.value_json).where(attributes.c.trial_id == trial_id, attributes.c.key == key)
    ).scalar_one_or_none()
    return None if text is None else json.loads(text)


def _release(connection: sqlalchemy.Connection, trial_id: int) -> None:
    attributes = schema.optuna_tables().system_attributes
    connection.execute(attributes.delete().where(attributes.c.trial_id == trial_id, attributes.c.key == OWNER))


def _fail(connection: sqlalchemy.Connection, trial_id: int, reason: str) -> None:
    tables = schema.optuna_tables()
    connection.execute(
        tables.trials.update()
        .where(tables.trials.c.trial_id == trial_id, tables.trials.c.state.not_in(schema.FINISHED))
        .values(state=TrialState.FAIL, datetime_complete=schema.database_now(connection))
    )
    set_attribute(connection, tables.user_attributes, trial_id, FAIL_REASON, reason)


def _copy_params(connection: sqlalchemy.Connection, source_id: int, target_id: int) -> None:
    params = schema.optuna_tables().params
    copied = ("param_name", "param_value", "distribution_json")
    rows = sqlalchemy.select(sqlalchemy.literal(target_id), *(params.c[name] for name in copied)).where(
        params.c.trial_id == source_id
    )
    connection.execute(params.insert().from_select(["trial_id", *copied], rows))
