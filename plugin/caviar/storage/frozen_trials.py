"""Reading many trials at once: a statement a table, where Optuna's own way takes one a trial and table."""

import datetime
import json
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial

from ..optuna_private import loaded_intermediate_value, loaded_value, optuna_tables
from . import schema

#: Trials whose parameters, reports and attributes one statement reads: databases limit a statement's values.
_BATCH = 500
#: What a row is that one statement reads from several tables.
_PARAM, _USER_ATTRIBUTE, _SYSTEM_ATTRIBUTE = range(3)
_kind_and_place = operator.itemgetter(0, -1)


class TrialReader:
    """Reads trials as Optuna would return them; remembers what it has parsed of their distributions."""

    def __init__(self) -> None:
        self._distributions: dict[str, BaseDistribution] = {}

    def read(self, connection: sqlalchemy.Connection, condition: sqlalchemy.ColumnElement[bool]) -> list[FrozenTrial]:
        """Return the trials of which a condition on the table of trials holds, by number.

        A trial's state is read before the rest, so that nothing of one that reads as finished is missing.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database cannot be read.
        """
        trials = optuna_tables().trials.c
        columns = (trials.trial_id, trials.number, trials.state, trials.datetime_start, trials.datetime_complete)
        rows = connection.execute(sqlalchemy.select(*columns).where(condition).order_by(trials.number))
        found = {
            trial_id: FrozenTrial(
                trial_id=trial_id,
                number=number,
                state=state,
                value=None,
                datetime_start=local_time(start),
                datetime_complete=local_time(complete),
                params={},
                distributions={},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
            )
            for trial_id, number, state, start, complete in rows.all()
        }
        trial_ids = list(found)
        for start in range(0, len(trial_ids), _BATCH):
            self._fill(connection, {trial_id: found[trial_id] for trial_id in trial_ids[start : start + _BATCH]})
        return list(found.values())

    def read_reports(
        self, connection: sqlalchemy.Connection, trial_ids: Collection[int], *, after_step: int | None = None
    ) -> dict[int, dict[int, float]]:
        """Return what trials reported, after some step if one is given: by Optuna's ids of them, step → value."""
        found: dict[int, dict[int, float]] = {}
        reports, wanted = optuna_tables().intermediate_values.c, sorted(trial_ids)
        columns = (reports.trial_id, reports.step, reports.intermediate_value, reports.intermediate_value_type)
        for start in range(0, len(wanted), _BATCH):
            among = schema.among(connection, reports.trial_id, wanted[start : start + _BATCH])
            named = sqlalchemy.select(*columns).where(among)
            rows = connection.execute(named if after_step is None else named.where(reports.step > after_step))
            for trial_id, step, value, kind in rows.all():
                loaded = loaded_intermediate_value(value, kind) if value is None else value
                found.setdefault(trial_id, {})[step] = loaded
        return found

    def _fill(self, connection: sqlalchemy.Connection, batch: Mapping[int, FrozenTrial]) -> None:
        for kind, trial_id, name, text, value in _params_and_attributes(connection, batch):
            trial = batch[trial_id]
            if kind == _PARAM:
                distribution = self._distributions.get(text)
                if distribution is None:
                    distribution = self._distributions[text] = json_to_distribution(text)
                trial.distributions[name] = distribution
                trial.params[name] = distribution.to_external_repr(value)
            else:
                attributes = trial.user_attrs if kind == _USER_ATTRIBUTE else trial.system_attrs
                attributes[name] = json.loads(text)
        finished = [trial_id for trial_id, trial in batch.items() if trial.state.is_finished()]
        for trial_id, value, kind in _values(connection, finished):
            batch[trial_id].values = [*(batch[trial_id].values or ()), loaded_value(value, kind)]
        for trial_id, reports in self.read_reports(connection, batch).items():
            batch[trial_id].intermediate_values = reports


def local_time(utc: datetime.datetime | None) -> datetime.datetime | None:
    """Return naive UTC, which the database holds, as naive local time, which Optuna returns."""
    return None if utc is None else utc.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def _params_and_attributes(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> Sequence[Any]:
    """Return what trials have of both, in one statement: kind, trial, name, text and value; parameters as drawn."""
    tables = optuna_tables()
    params = tables.params
    none: sqlalchemy.ColumnElement[Any] = sqlalchemy.null()
    parts: list[tuple[Any, ...]]
    parts = [(params, _PARAM, params.c.param_name, params.c.distribution_json, params.c.param_value, params.c.param_id)]
    for table, kind in ((tables.user_attributes, _USER_ATTRIBUTE), (tables.system_attributes, _SYSTEM_ATTRIBUTE)):
        parts.append((table, kind, table.c.key, table.c.value_json, none, sqlalchemy.literal_column("0")))
    selects = [
        sqlalchemy.select(sqlalchemy.literal_column(str(kind)), table.c.trial_id, *columns).where(
            schema.among(connection, table.c.trial_id, trial_ids)
        )
        for table, kind, *columns in parts
    ]
    rows = connection.execute(sqlalchemy.union_all(*selects)).all()
    return [row[:-1] for row in sorted(rows, key=_kind_and_place)]


def _values(connection: sqlalchemy.Connection, trial_ids: Collection[int]) -> Sequence[Any]:
    if not trial_ids:
        return []
    values = optuna_tables().values.c
    wanted = sqlalchemy.select(values.trial_id, values.value, values.value_type)
    wanted = wanted.where(schema.among(connection, values.trial_id, trial_ids))
    return connection.execute(wanted.order_by(values.objective)).all()
