"""What a worker has yet to write about its running trials, and the statements that write it for many at once."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState

from ..optuna_private import optuna_tables, stored_intermediate_value, stored_value
from . import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        state: COMPLETE, PRUNED or FAIL.
        values: One an objective; None where it has none.
        at: Naive UTC.
    """

    state: TrialState
    values: Sequence[float] | None
    at: datetime.datetime


@dataclasses.dataclass(kw_only=True)
class PendingWrites:
    """What is yet to be written about one trial; the later of two writes of one thing is kept.

    Attributes:
        params: Name → internal value and distribution.
        reports: Step → value.
        user_attributes: Key → JSON.
        system_attributes: Key → JSON.
        end: Its end, or None while it runs.
        parked: Whether it leaves its worker, to wait for its promotion.
    """

    params: dict[str, tuple[float, BaseDistribution]] = dataclasses.field(default_factory=dict)
    reports: dict[int, float] = dataclasses.field(default_factory=dict)
    user_attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    system_attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    end: TrialEnd | None = None
    parked: bool = False


def write_pending(connection: sqlalchemy.Connection, pending: Mapping[int, PendingWrites]) -> None:
    """Write what is pending of many running trials, a statement a table.

    Args:
        connection: In a transaction that holds the leases (``leased_storage.renew_leases``).
        pending: By Optuna's ids of the trials.
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
            {"trial_id": trial_id, "key": key, "value_json": text}
            for trial_id, texts in attributes.items()
            for key, text in texts.items()
        ]
        schema.upsert_many(connection, table, key=("trial_id", "key"), rows=rows)
    _write_ends(connection, {trial_id: writes.end for trial_id, writes in pending.items() if writes.end is not None})


def _write_ends(connection: sqlalchemy.Connection, ends: Mapping[int, TrialEnd]) -> None:
    if not ends:
        return
    tables = optuna_tables()
    values: list[dict[str, Any]] = [
        {"trial_id": trial_id, "objective": objective, **stored_value(value)}
        for trial_id, end in ends.items()
        for objective, value in enumerate(end.values or ())
    ]
    schema.upsert_many(connection, tables.values, key=("trial_id", "objective"), rows=values)
    trials = tables.trials
    connection.execute(
        trials.update()
        .where(trials.c.trial_id == sqlalchemy.bindparam("id"), trials.c.state == TrialState.RUNNING)
        .values(state=sqlalchemy.bindparam("end"), **schema.end_values(sqlalchemy.bindparam("at"))),
        [{"id": trial_id, "end": end.state, "at": end.at} for trial_id, end in ends.items()],
    )
