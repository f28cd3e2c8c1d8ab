"""What is to be written about trials, and the statements that write it for many at once."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState

from ..optuna_private import optuna_tables, stored_intermediate_value, stored_value
from . import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """How a trial ended: COMPLETE, PRUNED or FAIL, with one value an objective, if any, and when in naive UTC."""

    state: TrialState
    at: datetime.datetime
    values: Sequence[float] = ()


@dataclasses.dataclass(kw_only=True)
class PendingWrites:
    """What is yet to be written about one trial; the later of two writes of one thing is kept.

    Attributes:
        params: Name → internal value and distribution.
        reports: Step → value.
        user_attributes: Key → value, which JSON can hold.
        system_attributes: The same.
        end: Its end, or None while it runs.
    """

    params: dict[str, tuple[float, BaseDistribution]] = dataclasses.field(default_factory=dict)
    reports: dict[int, float] = dataclasses.field(default_factory=dict)
    user_attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    system_attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    end: TrialEnd | None = None


def write_pending(connection: sqlalchemy.Connection, pending: Mapping[int, PendingWrites]) -> None:
    """Write what is pending of unfinished trials, by Optuna's ids of them, a statement a table.

    Nothing is asked: the transaction must hold the trials' leases (``renew_leases``), or be a claim.
    """
    tables = optuna_tables()
    schema.upsert_many(
        connection,
        tables.params,
        key=("trial_id", "param_name"),
        rows=[
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }
            for trial_id, writes in pending.items()
            for name, (value, distribution) in writes.params.items()
        ],
    )
    schema.upsert_many(
        connection,
        tables.intermediate_values,
        key=("trial_id", "step"),
        rows=[
            {"trial_id": trial_id, "step": step, **stored_intermediate_value(value)}
            for trial_id, writes in pending.items()
            for step, value in writes.reports.items()
        ],
    )
    user = {trial_id: writes.user_attributes for trial_id, writes in pending.items()}
    system = {trial_id: writes.system_attributes for trial_id, writes in pending.items()}
    for table, attributes in ((tables.user_attributes, user), (tables.system_attributes, system)):
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, values in attributes.items()
            for key, value in values.items()
        ]
        schema.upsert_many(connection, table, key=("trial_id", "key"), rows=rows)
    _write_ends(connection, {trial_id: writes.end for trial_id, writes in pending.items() if writes.end is not None})


def _write_ends(connection: sqlalchemy.Connection, ends: Mapping[int, TrialEnd]) -> None:
    if not ends:
        return
    trials, values = optuna_tables().trials, optuna_tables().values
    rows: list[dict[str, Any]] = [
        {"trial_id": trial_id, "objective": objective, **stored_value(value)}
        for trial_id, end in ends.items()
        for objective, value in enumerate(end.values)
    ]
    schema.upsert_many(connection, values, key=("trial_id", "objective"), rows=rows)
    # The clock may be put back after a trial's start; and one that never ran, as one that was enqueued, has none.
    started, at = trials.c.datetime_start, sqlalchemy.bindparam("at", type_=sqlalchemy.DateTime())
    connection.execute(
        trials.update()
        .where(trials.c.trial_id == sqlalchemy.bindparam("id"))
        .where((trials.c.state == TrialState.RUNNING) | (trials.c.state == TrialState.WAITING))
        .values(
            state=sqlalchemy.bindparam("end"),
            datetime_start=sqlalchemy.func.coalesce(started, at),
            datetime_complete=sqlalchemy.case((started > at, started), else_=at),
        ),
        [{"id": trial_id, "end": end.state, "at": end.at} for trial_id, end in ends.items()],
    )
