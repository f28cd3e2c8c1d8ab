"""What is seen of a study's trials without claiming any: how many there are, which run, and who holds them."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

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
    with schema.reading(storage.engine) as connection:
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
    with schema.reading(storage.engine) as connection:
        value: float | None = connection.execute(found).scalar_one()
    return value


def count_epochs(storage: LeasedStorage, study_id: int) -> int:
    """Return how many epochs the trials of a study have reported, all together."""
    trials, reports = optuna_tables().trials, optuna_tables().intermediate_values
    joined = sqlalchemy.select(sqlalchemy.func.count(reports.c.step)).join(
        trials, trials.c.trial_id == reports.c.trial_id
    )
    with schema.reading(storage.engine) as connection:
        return connection.execute(joined.where(trials.c.study_id == study_id)).scalar_one()


def read_leases(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return the running trials of a study that a worker has a lease on."""
    return [trial for trial in read_running(storage, study_id) if trial.owner]


def read_running(storage: LeasedStorage, study_id: int) -> list[RunningTrial]:
    """Return a study's RUNNING trials by number, those that nobody holds included."""
    tables = optuna_tables()
    owners, beats, trials = tables.system_attributes, tables.heartbeats, tables.trials
    with schema.reading(storage.engine) as connection:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What is seen of a study without reading its trials.

    Attributes:
        name: Its name.
        directions: ``maximize`` or ``minimize``, one for each objective.
        attributes: Its user attributes that begin with ``caviar:``.
        counts: How many trials are in each state, by the state's name in lower case.
        best: Number and value of its best complete trial; None before the first, and with several objectives.
        last_ends: When its last twenty trials with a result ended, the newest first; naive UTC.
        n_workers: How many workers hold a lease on a running trial, be it expired.
    """

    name: str
    directions: tuple[str, ...]
    attributes: Mapping[str, Any]
    counts: Mapping[str, int]
    best: tuple[int, float] | None
    last_ends: tuple[datetime.datetime, ...]
    n_workers: int


def summarize_studies(storage: LeasedStorage) -> list[StudySummary]:
    """Return what is seen of every study, by name, in a few statements."""
    studies = optuna_tables().studies
    with schema.reading(storage.engine) as connection:
        names = connection.execute(sqlalchemy.select(studies.c.study_id, studies.c.study_name)).all()
        attributes, directions = _our_attributes(connection), _directions(connection)
        counts, workers = _counts_by_study(connection), _workers_by_study(connection)
        return [
            StudySummary(
                name=name,
                directions=tuple(directions.get(study_id, ())),
                attributes=attributes.get(study_id, {}),
                counts=dict.fromkeys((state.name.lower() for state in TrialState), 0) | counts.get(study_id, {}),
                best=_best_complete(connection, study_id, directions.get(study_id, [])),
                last_ends=_last_ends(connection, study_id),
                n_workers=workers.get(study_id, 0),
            )
            for study_id, name in sorted(names, key=lambda row: str(row[1]))
        ]


def _our_attributes(connection: sqlalchemy.Connection) -> dict[int, dict[str, Any]]:
    table = optuna_tables().study_user_attributes
    wanted = table.c.key.like("caviar:%")
    rows = connection.execute(sqlalchemy.select(table.c.study_id, table.c.key, table.c.value_json).where(wanted))
    found: dict[int, dict[str, Any]] = {}
    for study_id, key, text in rows:
        found.setdefault(study_id, {})[key] = json.loads(text)
    return found


def _directions(connection: sqlalchemy.Connection) -> dict[int, list[str]]:
    table = optuna_tables().studies.metadata.tables["study_directions"]
    rows = connection.execute(sqlalchemy.select(table.c.study_id, table.c.direction).order_by(table.c.objective))
    found: dict[int, list[str]] = {}
    for study_id, direction in rows:
        found.setdefault(study_id, []).append(direction.name.lower())
    return found


def _counts_by_study(connection: sqlalchemy.Connection) -> dict[int, dict[str, int]]:
    trials = optuna_tables().trials
    number = sqlalchemy.func.count()
    rows = connection.execute(
        sqlalchemy.select(trials.c.study_id, trials.c.state, number).group_by(trials.c.study_id, trials.c.state)
    )
    found: dict[int, dict[str, int]] = {}
    for study_id, state, n in rows:
        found.setdefault(study_id, {})[state.name.lower()] = n
    return found


def _workers_by_study(connection: sqlalchemy.Connection) -> dict[int, int]:
    trials, owners = optuna_tables().trials, optuna_tables().system_attributes
    rows = connection.execute(
        sqlalchemy.select(trials.c.study_id, sqlalchemy.func.count(owners.c.value_json.distinct()))
        .join(owners, owners.c.trial_id == trials.c.trial_id)
        .where(trials.c.state == TrialState.RUNNING, owners.c.key == OWNER)
        .group_by(trials.c.study_id)
    )
    return {study_id: n for study_id, n in rows}  # noqa: C416  (rows are no pairs to mypy)


def _best_complete(
    connection: sqlalchemy.Connection, study_id: int, directions: Sequence[str]
) -> tuple[int, float] | None:
    if len(directions) != 1:
        return None
    trials, values = optuna_tables().trials, optuna_tables().values
    order = values.c.value.desc() if directions[0] == "maximize" else values.c.value.asc()
    row = connection.execute(
        sqlalchemy.select(trials.c.number, values.c.value)
        .join(values, values.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == TrialState.COMPLETE, values.c.value.is_not(None))
        .order_by(order, trials.c.number)
        .limit(1)
    ).first()
    return None if row is None else (row.number, row.value)


def _last_ends(connection: sqlalchemy.Connection, study_id: int) -> tuple[datetime.datetime, ...]:
    trials = optuna_tables().trials
    ended = trials.c.state.in_([TrialState.COMPLETE, TrialState.PRUNED]), trials.c.datetime_complete.is_not(None)
    rows = connection.execute(
        sqlalchemy.select(trials.c.datetime_complete)
        .where(trials.c.study_id == study_id, *ended)
        .order_by(trials.c.datetime_complete.desc())
        .limit(20)
    )
    return tuple(rows.scalars())
