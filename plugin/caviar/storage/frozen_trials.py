"""Reading many trials at once: a statement a table, where Optuna's own way takes one a trial and table."""

import datetime
import json
from collections.abc import Iterator, Sequence

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial

from ..optuna_private import id_of_trial, loaded_intermediate_value, loaded_value, optuna_tables

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
        trials = optuna_tables().trials
        rows = connection.execute(
            sqlalchemy.select(
                trials.c.trial_id, trials.c.number, trials.c.state, trials.c.datetime_start, trials.c.datetime_complete
            )
            .where(condition)
            .order_by(trials.c.number)
        )
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
        for batch in _batches(list(found.values())):
            self._fill_params(connection, batch)
            _fill_values(connection, batch)
            _fill_reports(connection, batch)
            _fill_attributes(connection, batch)
        return list(found.values())

    def _fill_params(self, connection: sqlalchemy.Connection, batch: dict[int, FrozenTrial]) -> None:
        params = optuna_tables().params
        rows = connection.execute(
            sqlalchemy.select(params.c.trial_id, params.c.param_name, params.c.param_value, params.c.distribution_json)
            .where(params.c.trial_id.in_(list(batch)))
            .order_by(params.c.param_id)
        )
        for trial_id, name, value, text in rows.all():
            distribution = self._distributions.get(text)
            if distribution is None:
                distribution = self._distributions[text] = json_to_distribution(text)
            batch[trial_id].distributions[name] = distribution
            batch[trial_id].params[name] = distribution.to_external_repr(value)


def local_time(utc: datetime.datetime | None) -> datetime.datetime | None:
    """Return naive UTC, which the database holds, as naive local time, which Optuna returns."""
    return None if utc is None else utc.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def _batches(trials: Sequence[FrozenTrial]) -> Iterator[dict[int, FrozenTrial]]:
    for start in range(0, len(trials), _BATCH):
        yield {id_of_trial(trial): trial for trial in trials[start : start + _BATCH]}


def _fill_values(connection: sqlalchemy.Connection, batch: dict[int, FrozenTrial]) -> None:
    values = optuna_tables().values
    finished = [trial_id for trial_id, trial in batch.items() if trial.state.is_finished()]
    if not finished:
        return
    rows = connection.execute(
        sqlalchemy.select(values.c.trial_id, values.c.value, values.c.value_type)
        .where(values.c.trial_id.in_(finished))
        .order_by(values.c.objective)
    )
    for trial_id, value, kind in rows:
        batch[trial_id].values = [*(batch[trial_id].values or ()), loaded_value(value, kind)]


def _fill_reports(connection: sqlalchemy.Connection, batch: dict[int, FrozenTrial]) -> None:
    reports = optuna_tables().intermediate_values
    rows = connection.execute(
        sqlalchemy.select(
            reports.c.trial_id, reports.c.step, reports.c.intermediate_value, reports.c.intermediate_value_type
        ).where(reports.c.trial_id.in_(list(batch)))
    )
    for trial_id, step, value, kind in rows.all():
        loaded = loaded_intermediate_value(value, kind) if value is None else value
        batch[trial_id].intermediate_values[step] = loaded


def _fill_attributes(connection: sqlalchemy.Connection, batch: dict[int, FrozenTrial]) -> None:
    tables = optuna_tables()
    for table, attributes in (
        (tables.user_attributes, {trial_id: trial.user_attrs for trial_id, trial in batch.items()}),
        (tables.system_attributes, {trial_id: trial.system_attrs for trial_id, trial in batch.items()}),
    ):
        wanted = table.c.trial_id.in_(list(batch))
        rows = connection.execute(sqlalchemy.select(table.c.trial_id, table.c.key, table.c.value_json).where(wanted))
        for trial_id, key, text in rows.all():
            attributes[trial_id][key] = json.loads(text)
