"""Reading many trials at once: a statement a table, where Optuna's own way takes one a trial and table."""

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial

from ..optuna_private import loaded_intermediate_value, loaded_value, optuna_tables

#: Trials whose parameters, reports and attributes one statement reads: databases limit a statement's values.
_BATCH = 500


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
            named = sqlalchemy.select(*columns).where(reports.trial_id.in_(wanted[start : start + _BATCH]))
            rows = connection.execute(named if after_step is None else named.where(reports.step > after_step))
            for trial_id, step, value, kind in rows.all():
                loaded = loaded_intermediate_value(value, kind) if value is None else value
                found.setdefault(trial_id, {})[step] = loaded
        return found

    def _fill(self, connection: sqlalchemy.Connection, batch: Mapping[int, FrozenTrial]) -> None:
        tables = optuna_tables()
        params, values = tables.params.c, tables.values.c
        columns: tuple[sqlalchemy.Column[Any], ...]
        columns = (params.trial_id, params.param_name, params.param_value, params.distribution_json)
        for trial_id, name, value, text in _rows(connection, batch, *columns, order=params.param_id):
            distribution = self._distributions.get(text)
            if distribution is None:
                distribution = self._distributions[text] = json_to_distribution(text)
            batch[trial_id].distributions[name] = distribution
            batch[trial_id].params[name] = distribution.to_external_repr(value)
        finished = [trial_id for trial_id, trial in batch.items() if trial.state.is_finished()]
        columns = (values.trial_id, values.value, values.value_type)
        for trial_id, value, kind in _rows(connection, finished, *columns, order=values.objective):
            batch[trial_id].values = [*(batch[trial_id].values or ()), loaded_value(value, kind)]
        for trial_id, reports in self.read_reports(connection, batch).items():
            batch[trial_id].intermediate_values = reports
        for table, name in ((tables.user_attributes.c, "user_attrs"), (tables.system_attributes.c, "system_attrs")):
            for trial_id, key, text in _rows(connection, batch, table.trial_id, table.key, table.value_json):
                getattr(batch[trial_id], name)[key] = json.loads(text)


def local_time(utc: datetime.datetime | None) -> datetime.datetime | None:
    """Return naive UTC, which the database holds, as naive local time, which Optuna returns."""
    return None if utc is None else utc.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def _rows(
    connection: sqlalchemy.Connection,
    trial_ids: Collection[int],
    *columns: sqlalchemy.Column[Any],
    order: sqlalchemy.Column[Any] | None = None,
) -> Sequence[Any]:
    """Return columns of a table, of which the first is the trial's id, for some trials."""
    if not trial_ids:
        return []
    return connection.execute(sqlalchemy.select(*columns).where(columns[0].in_(trial_ids)).order_by(order)).all()
