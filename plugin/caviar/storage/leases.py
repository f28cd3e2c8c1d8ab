"""Leases on trials: which worker owns which, for how long, and what its leases are worth."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.trial import TrialState

from ..attributes import OWNER
from ..errors import TrialFailed
from ..optuna_private import optuna_tables
from . import schema


class LeaseLost(TrialFailed):
    """The trial belongs to another worker now, or was finished by somebody else: write nothing more about it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaseCheck:
    """What a worker's leases on some trials are worth, by Optuna's ids of the trials.

    Attributes:
        held: Those that run and are this worker's; their leases have been renewed.
        lost: Those that another worker holds, that wait for one, or that were deleted with their study.
        ended: Those that are still this worker's, but were ended from outside, by the dashboard say.
    """

    held: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()


def renew_leases(connection: sqlalchemy.Connection, trial_ids: Collection[int], owner: str) -> LeaseCheck:
    """Renew a worker's leases on many trials; what it held then stays its own until the transaction ends.

    The transaction must hold SQLite's write lock (``schema.take_write_lock``). A server locks the heartbeats first, as
    whoever hands an expired trial back does, and by trial, so that no two wait for each other; then the trials, against
    an end from outside. What is read after that was committed before, and cannot change: the owner is read by a
    statement of its own, since one that waited for a row sees the other rows as they were before it waited.
    """
    tables = optuna_tables()
    trials, owners, beats = tables.trials, tables.system_attributes, tables.heartbeats
    lock_heartbeats(connection, trial_ids)
    rows = connection.execute(
        sqlalchemy.select(trials.c.trial_id, trials.c.state, owners.c.value_json)
        .outerjoin(owners, sqlalchemy.and_(owners.c.trial_id == trials.c.trial_id, owners.c.key == OWNER))
        .where(schema.among(connection, trials.c.trial_id, trial_ids))
        .order_by(trials.c.trial_id)
        .with_for_update(of=trials)
    ).all()
    mine = {row.trial_id: row.state for row in rows if row.value_json == json.dumps(owner)}
    held = [trial_id for trial_id, state in mine.items() if state == TrialState.RUNNING]
    now = schema.database_now(connection)
    renewed = beats.update().where(schema.among(connection, beats.c.trial_id, held))
    connection.execute(renewed.values(heartbeat=now))
    ended = frozenset(trial_id for trial_id, state in mine.items() if state.is_finished())
    lost = frozenset(trial_ids) - frozenset(held) - ended
    return LeaseCheck(held=frozenset(held), lost=lost, ended=ended)


def lock_heartbeats(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> None:
    """Lock trials' heartbeats on a server, before anything else of them and by trial, as all do that change leases."""
    if connection.dialect.name != "sqlite":
        beats = optuna_tables().heartbeats
        locked = sqlalchemy.select(beats.c.trial_id).where(schema.among(connection, beats.c.trial_id, trial_ids))
        connection.execute(locked.order_by(beats.c.trial_id).with_for_update())


def take_leases(connection: sqlalchemy.Connection, trial_ids: Sequence[int], owner: str) -> None:
    """Make a worker the owner of trials from now on, whoever owned them before."""
    tables = optuna_tables()
    owned = [{"trial_id": trial_id, "key": OWNER, "value_json": json.dumps(owner)} for trial_id in trial_ids]
    now = schema.database_now(connection)
    beats = [{"trial_id": trial_id, "heartbeat": now} for trial_id in trial_ids]
    schema.upsert(connection, {tables.system_attributes: owned, tables.heartbeats: beats})


def remove_attribute(connection: sqlalchemy.Connection, trial_ids: Collection[int], key: str) -> None:
    """Remove a system attribute of trials: without ``OWNER``, nobody has a lease on them."""
    attributes = optuna_tables().system_attributes
    among = schema.among(connection, attributes.c.trial_id, trial_ids)
    connection.execute(attributes.delete().where(among, attributes.c.key == key))


def read_attributes(connection: sqlalchemy.Connection, trial_ids: Collection[int], key: str) -> Mapping[int, Any]:
    """Return a system attribute of those trials that have it, by Optuna's ids of the trials."""
    attributes = optuna_tables().system_attributes
    wanted = schema.among(connection, attributes.c.trial_id, trial_ids) & (attributes.c.key == key)
    rows = connection.execute(sqlalchemy.select(attributes.c.trial_id, attributes.c.value_json).where(wanted))
    return {row.trial_id: json.loads(row.value_json) for row in rows}
