"""What is seen of a study's trials without claiming any: how many there are, which run, and who holds them."""

import dataclasses
import datetime
import json

import sqlalchemy
from optuna.trial import TrialState

from ..attributes import OWNER
from ..optuna_private import optuna_tables
from . import schema
from .leased_storage import LeasedStorage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """Who holds a running trial, and since when it was last renewed.

    Attributes:
        trial_id: Optuna's id of the trial.
        owner: The worker: ``host:pid:token``.
        renewed_at: Naive UTC.
        read_at: By the same clock, when this was read.
    """

    trial_id: int
    owner: str
    renewed_at: datetime.datetime
    read_at: datetime.datetime

    def expires_at(self, lease_s: float) -> datetime.datetime:
        """Return until when it holds; one from before the clock was put back (``expired_trials``) has run out."""
        lease = datetime.timedelta(seconds=lease_s)
        return self.read_at if self.renewed_at > self.read_at + lease else self.renewed_at + lease


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A RUNNING trial, and the last that was heard of it.

    Attributes:
        trial_id: Optuna's id of the trial.
        number: Its number in the study.
        leased: Whether a worker has a lease on it, be it expired.
        silent_s: Seconds between now and when its lease was renewed or, without one, when it began; None if it never
            did. Where the clock was put back since, that lies ahead.
    """

    trial_id: int
    number: int
    leased: bool
    silent_s: float | None

    def expired(self, lease_s: float) -> bool:
        """Tell whether the next claim hands it back."""
        return self.silent_s is None or self.silent_s > lease_s


def count_trials(storage: LeasedStorage, study_id: int) -> dict[TrialState, int]:
    """Return how many trials of a study are in each state, zeros included."""
    with schema.transaction(storage.engine) as connection:
        counts = count_states(connection, study_id)
    return {state: counts.get(state, 0) for state in TrialState}


def best_complete_value(storage: LeasedStorage, study_id: int, *, maximize: bool) -> float | None:
    """Return the best value of a study's complete trials, None before the first; without reading the trials."""
    tables = optuna_tables()
    best = sqlalchemy.func.max if maximize else sqlalchemy.func.min
    with schema.transaction(storage.engine) as connection:
        value: float | None = connection.execute(
            sqlalchemy.select(best(tables.values.c.value))
            .join(tables.trials, tables.trials.c.trial_id == tables.values.c.trial_id)
            .where(tables.trials.c.study_id == study_id, tables.trials.c.state == TrialState.COMPLETE)
        ).scalar_one()
    return value


def count_epochs(storage: LeasedStorage, study_id: int) -> int:
    """Return how many epochs the trials of a study have reported, all together."""
    tables = optuna_tables()
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
    tables = optuna_tables()
    owners, beats, trials = tables.system_attributes, tables.heartbeats, tables.trials
    with schema.transaction(storage.engine) as connection:
        now = schema.database_now(connection)
        rows = connection.execute(
            sqlalchemy.select(trials.c.trial_id, owners.c.value_json, beats.c.heartbeat)
            .join(owners, owners.c.trial_id == trials.c.trial_id)
            .join(beats, beats.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING, owners.c.key == OWNER)
        ).all()
    return [
        Lease(trial_id=row.trial_id, owner=json.loads(row.value_json), renewed_at=row.heartbeat, read_at=now)
        for row in rows
    ]


def read_running(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return a study's RUNNING trials by number, those that nobody holds included."""
    tables = optuna_tables()
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
                silent_s=None if silence is None else abs(silence.total_seconds()),
            )
        )
    return running


def count_states(connection: sqlalchemy.Connection, study_id: int) -> dict[TrialState, int]:
    """Return how many trials of a study are in each state that there is."""
    trials = optuna_tables().trials
    rows = connection.execute(
        sqlalchemy.select(trials.c.state, sqlalchemy.func.count().label("n"))
        .where(trials.c.study_id == study_id)
        .group_by(trials.c.state)
    )
    return {row.state: row.n for row in rows}
