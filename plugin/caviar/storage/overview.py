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
    with schema.transaction(storage.engine) as connection:
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
