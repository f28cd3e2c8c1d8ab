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
class RunningTrial:
    """A RUNNING trial, and the last that was heard of it; times are naive UTC.

    Attributes:
        trial_id: Optuna's id of the trial.
        number: Its number in the study.
        owner: The worker that has a lease on it, be it expired: ``host:pid:token``. Empty for none.
        heard_at: When its lease was renewed or, without one, when it began; None if it never did.
        read_at: By the same clock, when this was read. Where the clock was put back since, ``heard_at`` lies ahead.
    """

    trial_id: int
    number: int
    owner: str
    heard_at: datetime.datetime | None
    read_at: datetime.datetime

    def expired(self, lease_s: float) -> bool:
        """Tell whether the next claim hands it back."""
        return self.heard_at is None or abs(self.read_at - self.heard_at) > datetime.timedelta(seconds=lease_s)

    def expires_at(self, lease_s: float) -> datetime.datetime:
        """Return when its lease ends; one from before the clock was put back (``expired_trials``) has run out."""
        lease = datetime.timedelta(seconds=lease_s)
        if self.heard_at is None or self.heard_at > self.read_at + lease:
            return self.read_at
        return self.heard_at + lease


def count_trials(storage: LeasedStorage, study_id: int) -> dict[TrialState, int]:
    """Return how many trials of a study are in each state, zeros included."""
    with schema.transaction(storage.engine) as connection:
        return count_states(connection, study_id)


def count_states(connection: sqlalchemy.Connection, study_id: int) -> dict[TrialState, int]:
    """Do what ``count_trials`` does in a transaction."""
    trials = optuna_tables().trials
    counted = sqlalchemy.select(trials.c.state, sqlalchemy.func.count().label("n"))
    rows = connection.execute(counted.where(trials.c.study_id == study_id).group_by(trials.c.state))
    return dict.fromkeys(TrialState, 0) | {row.state: row.n for row in rows}


def best_complete_value(storage: LeasedStorage, study_id: int, *, maximize: bool) -> float | None:
    """Return the best value of a study's complete trials, None before the first; without reading the trials."""
    trials, values = optuna_tables().trials, optuna_tables().values
    best = (sqlalchemy.func.max if maximize else sqlalchemy.func.min)(values.c.value)
    complete = (trials.c.study_id == study_id) & (trials.c.state == TrialState.COMPLETE)
    found = sqlalchemy.select(best).join(trials, trials.c.trial_id == values.c.trial_id).where(complete)
    with schema.transaction(storage.engine) as connection:
        value: float | None = connection.execute(found).scalar_one()
    return value


def count_epochs(storage: LeasedStorage, study_id: int) -> int:
    """Return how many epochs the trials of a study have reported, all together."""
    trials, reports = optuna_tables().trials, optuna_tables().intermediate_values
    joined = sqlalchemy.select(sqlalchemy.func.count(reports.c.step)).join(
        trials, trials.c.trial_id == reports.c.trial_id
    )
    with schema.transaction(storage.engine) as connection:
        return connection.execute(joined.where(trials.c.study_id == study_id)).scalar_one()


def read_leases(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return the running trials of a study that a worker has a lease on."""
    return [trial for trial in read_running(storage, study_id) if trial.owner]


def read_running(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return a study's RUNNING trials by number, those that nobody holds included."""
    tables = optuna_tables()
    owners, beats, trials = tables.system_attributes, tables.heartbeats, tables.trials
    with schema.transaction(storage.engine) as connection:
        now = schema.database_now(connection)
        columns = (trials.c.trial_id, trials.c.number, trials.c.datetime_start, owners.c.value_json, beats.c.heartbeat)
        rows = connection.execute(
            sqlalchemy.select(*columns)
            .outerjoin(owners, sqlalchemy.and_(owners.c.trial_id == trials.c.trial_id, owners.c.key == OWNER))
            .outerjoin(beats, beats.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
            .order_by(trials.c.number)
        ).all()
    return [
        RunningTrial(
            trial_id=row.trial_id,
            number=row.number,
            owner=json.loads(row.value_json) if row.value_json and row.heartbeat else "",
            heard_at=row.heartbeat or row.datetime_start,
            read_at=now,
        )
        for row in rows
    ]
