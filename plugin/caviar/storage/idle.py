"""Which workers of a study have nothing to do, so that those with more than they train can give some of it back."""

import datetime
import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy

from ..attributes import IDLE
from ..optuna_private import optuna_tables
from . import schema

_RENEWED: Final = datetime.timedelta(seconds=1)
_STALE: Final = datetime.timedelta(seconds=3)  # an idle worker looks twice a second


def note_idle(connection: sqlalchemy.Connection, study_id: int, owner: str, *, idle: bool) -> None:
    """Note in a claim's transaction whether a worker found no trial to take."""
    table, now = optuna_tables().study_system_attributes, schema.database_now(connection)
    text = connection.execute(
        sqlalchemy.select(table.c.value_json).where(table.c.study_id == study_id, table.c.key == IDLE)
    ).scalar_one_or_none()
    before = _fresh(json.loads(text or "{}"), now=now)
    after = {other: noted for other, noted in before.items() if other != owner}
    if idle:
        noted = before.get(owner)
        after[owner] = now if noted is None or now - noted > _RENEWED else noted
    if after != before:
        value = json.dumps({worker: noted.isoformat() for worker, noted in after.items()})
        schema.upsert(connection, {table: [{"study_id": study_id, "key": IDLE, "value_json": value}]})


def count_idle(attributes: Mapping[str, Any], *, now: datetime.datetime) -> int:
    """Return how many workers had nothing to do lately, by a study's system attributes and its database's clock."""
    return len(_fresh(attributes.get(IDLE, {}), now=now))


def _fresh(noted: Mapping[str, str], *, now: datetime.datetime) -> dict[str, datetime.datetime]:
    times = {owner: datetime.datetime.fromisoformat(time) for owner, time in noted.items()}
    return {owner: time for owner, time in times.items() if abs(now - time) < _STALE}  # the clock may be put back
