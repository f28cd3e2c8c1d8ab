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
    params, reports, values, ends = [], [], [], []
    user: list[dict[str, Any]] = []
    system: list[dict[str, Any]] = []
    for trial_id, writes in pending.items():
        for name, (value, distribution) in writes.params.items():
            stored = {"param_value": value, "distribution_json": distribution_to_json(distribution)}
            params.append({"trial_id": trial_id, "param_name": name, **stored})
        for step, value in writes.reports.items():
            reports.append({"trial_id": trial_id, "step": step, **stored_intermediate_value(value)})
        for rows, attributes in ((user, writes.user_attributes), (system, writes.system_attributes)):
            for key, attribute in attributes.items():
                rows.append({"trial_id": trial_id, "key": key, "value_json": json.dumps(attribute)})
        if writes.end is not None:
            for objective, value in enumerate(writes.end.values):
                values.append({"trial_id": trial_id, "objective": objective, **stored_value(value)})
            ends.append({"id": trial_id, "end": writes.end.state, "at": writes.end.at})
    written: dict[sqlalchemy.Table, list[dict[str, Any]]] = {tables.params: params, tables.intermediate_values: reports}
    written |= {tables.user_attributes: user, tables.system_attributes: system, tables.values: values}
    schema.upsert(connection, written)
    if ends:
        _write_ends(connection, ends)


def _write_ends(connection: sqlalchemy.Connection, ends: Sequence[Mapping[str, Any]]) -> None:
    """Write the states and times of ends; the clock may be put back after a start, and what never ran has no start."""
    trials = optuna_tables().trials
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
        ends,
    )
