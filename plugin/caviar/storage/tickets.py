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

from ..errors import FatalError
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A RUNNING trial, and the last that was heard of it.

    Attributes:
        trial_id: Optuna's id of the trial.
        number: Its number in the study.
        leased: Whether a worker has a lease on it, be it expired.
        silent_s: Seconds since its lease was renewed or, without one, since it began; None if it never did.
    """

    trial_id: int
    number: int
    leased: bool
    silent_s: float | None

    def expired(self, lease_s: float) -> bool:
        """Tell whether the next claim hands it back."""
        return self.silent_s is None or self.silent_s > lease_s


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

    Raises:
        FatalError: If the study was deleted.
        StorageInternalError: If the database cannot be written.
    """
    with schema.transaction(storage.engine) as connection:
        schema.begin_claim(connection, study_id)
        _check_study_exists(connection, study_id)
        _hand_back_expired(connection, study_id, lease_s=lease_s, retries=retries)
        trials = schema.optuna_tables().trials
        trial_id = _first_waiting(connection, study_id)
        if trial_id is not None:
            started = sqlalchemy.func.coalesce(trials.c.datetime_start, schema.database_now(connection))
            connection.execute(
                trials.update()
                .where(trials.c.trial_id == trial_id)
                .values(state=TrialState.RUNNING, datetime_start=started)
            )
            take_lease(connection, trial_id, storage.owner)
            storage.remember_lease(trial_id)
            return _read_ticket(connection, trial_id)
        counts = _count_states(connection, study_id)
        if sum(counts.values()) - counts.get(TrialState.FAIL, 0) >= budget:
            return "wait" if counts.get(TrialState.RUNNING, 0) else "done"
        number = sum(counts.values())
        trial_id = connection.execute(
            trials.insert().values(
                study_id=study_id,
                number=number,
                state=TrialState.RUNNING,
                datetime_start=schema.database_now(connection),
            )
        ).inserted_primary_key[0]  # type: ignore[index]  # SQLAlchemy types it optional, an insert always has it
        take_lease(connection, trial_id, storage.owner)
        storage.remember_lease(trial_id)
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


def read_running(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return a study's RUNNING trials by number, those that nobody holds included."""
    tables = schema.optuna_tables()
    owners, beats, trials = tables.system_attributes, tables.heartbeats, tables.trials
    with schema.transaction(storage.engine) as connection:
        now = schema.database_now(connection)
        rows = connection.execute(
            sqlalchemy.select(
                trials.c.trial_id, trials.c.number, trials.c.datetime_start, owners.c.key, beats.c.heartbeat
            )
            .outerjoin(owners, sqlalchemy.and_(owners.c.trial_id == trials.c.trial_id, owners.c.key == OWNER))
            .outerjoin(beats, beats.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
            .order_by(trials.c.number)
        ).all()
    running = []
    for row in rows:
        if row.heartbeat is not None:
            silence: datetime.timedelta | None = now - row.heartbeat
        else:
            silence = None if row.datetime_start is None else now - row.datetime_start
        running.append(
            RunningTrial(
                trial_id=row.trial_id,
                number=row.number,
                leased=row.key is not None and row.heartbeat is not None,
                silent_s=None if silence is None else silence.total_seconds(),
            )
        )
    return running


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
        _hand_back_expired(connection, study_id, lease_s=lease_s, retries=retries)


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
        if returned:
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
    with storage.owned(trial._trial_id, claims=True) as connection:
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
    for trial_id in _expired(connection, study_id, lease_s=lease_s):
        deaths = 1 + (_read_attribute(connection, trial_id, DEATHS) or 0)
        set_attribute(connection, tables.system_attributes, trial_id, DEATHS, deaths)
        if deaths > retries:
            _fail(connection, trial_id, f"Its worker died {deaths} times.")
        else:
            connection.execute(
                tables.trials.update()
                .where(tables.trials.c.trial_id == trial_id, tables.trials.c.state == TrialState.RUNNING)
                .values(state=TrialState.WAITING)
            )
            _release(connection, trial_id)


def _expired(connection: sqlalchemy.Connection, study_id: int, *, lease_s: float) -> list[int]:
    """Return the running trials whose lease ran out, locked until the transaction ends.

    The lock, which SQLite's write lock makes needless there, is on the heartbeat's row, with which every write of an
    owner begins: an owner that comes in time keeps its trial, and a late one sees that it was taken.
    """
    trials, beats = schema.optuna_tables().trials, schema.optuna_tables().heartbeats
    allowed = datetime.timedelta(seconds=lease_s)
    running = sqlalchemy.and_(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
    leased = connection.execute(
        sqlalchemy.select(beats.c.trial_id)
        .join(trials, trials.c.trial_id == beats.c.trial_id)
        .where(running, beats.c.heartbeat < schema.database_now(connection) - allowed)
        .with_for_update(of=beats)
    )
    started = trials.c.datetime_start
    stray = connection.execute(
        sqlalchemy.select(trials.c.trial_id)
        .where(running, ~sqlalchemy.exists().where(beats.c.trial_id == trials.c.trial_id))
        .where(sqlalchemy.or_(started.is_(None), started < schema.database_now(connection) - allowed))
        .with_for_update(of=trials)
    )
    candidates = sorted({*leased.scalars(), *stray.scalars()})
    still = sqlalchemy.select(trials.c.trial_id).where(trials.c.trial_id.in_(candidates), running)
    return list(connection.execute(still).scalars()) if candidates else []


def _check_study_exists(connection: sqlalchemy.Connection, study_id: int) -> None:
    studies = schema.optuna_tables().studies
    if connection.execute(sqlalchemy.select(studies.c.study_id).where(studies.c.study_id == study_id)).first() is None:
        raise FatalError("The study was deleted while it ran, so nothing is left to do.")


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
