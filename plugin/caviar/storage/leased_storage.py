"""Optuna's relational storage, with every write on a trial guarded by its lease."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from ..errors import TrialFailed
from . import schema

OWNER = "caviar:owner"


class LeaseLost(TrialFailed):
    """The trial belongs to another worker now, or was finished by somebody else: write nothing more about it."""


class LeasedStorage(RDBStorage):
    """Optuna's ``RDBStorage`` for one worker: a plain Optuna database, in which two workers never run one trial.

    States change by compare-and-swap, and a trial that somebody owns is written by its owner alone. Every write renews
    the lease in the same transaction, so that a worker that was stopped for longer than its lease writes nothing.

    Args:
        url: SQLAlchemy's address of an SQLite or PostgreSQL database.
        owner: What names this worker: ``host:pid:token``.
        engine_kwargs: For ``sqlalchemy.create_engine``.
        skip_table_creation: Whether the schema is known to be there.
    """

    def __init__(
        self, url: str, *, owner: str, engine_kwargs: dict[str, Any] | None = None, skip_table_creation: bool = False
    ) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs, skip_table_creation=skip_table_creation)
        self.owner = owner

    @contextlib.contextmanager
    def owned(self, trial_id: int) -> Iterator[sqlalchemy.Connection]:
        """Open a transaction that holds this worker's lease on a trial, renewed.

        The first statement is the guard and a write, so that it takes SQLite's write lock before anything is read.

        Raises:
            LeaseLost: If another worker owns the trial.
        """
        tables = schema.optuna_tables()
        with schema.transaction(self.engine) as connection:
            mine = sqlalchemy.exists().where(
                tables.system_attributes.c.trial_id == trial_id,
                tables.system_attributes.c.key == OWNER,
                tables.system_attributes.c.value_json == json.dumps(self.owner),
            )
            renewed = connection.execute(
                tables.heartbeats.update()
                .where(tables.heartbeats.c.trial_id == trial_id, mine)
                .values(heartbeat=schema.database_now(connection))
            )
            if renewed.rowcount == 0 and self._owner_of(connection, trial_id) is not None:
                raise LeaseLost(f"Trial {trial_id} is no longer held by this worker ({self.owner}).")
            yield connection

    def renew(self, trial_id: int) -> None:
        """Renew this worker's lease on a trial.

        Raises:
            LeaseLost: If another worker owns the trial, or it no longer runs.
        """
        with self.owned(trial_id) as connection:
            trials = schema.optuna_tables().trials
            state = connection.execute(
                sqlalchemy.select(trials.c.state).where(trials.c.trial_id == trial_id)
            ).scalar_one_or_none()
        if state != TrialState.RUNNING:
            raise LeaseLost(f"Trial {trial_id} was ended from outside: it is {getattr(state, 'name', 'deleted')}.")

    def report(self, trial_id: int, values: Mapping[int, float]) -> None:
        """Store several steps' intermediate values of a running trial in one transaction.

        Args:
            trial_id: Optuna's id of the trial.
            values: Step → value.

        Raises:
            LeaseLost: If another worker owns the trial.
            UpdateFinishedTrialError: If it is finished.
        """
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            for step, value in values.items():
                schema.upsert(
                    connection,
                    schema.optuna_tables().intermediate_values,
                    {"trial_id": trial_id, "step": step},
                    schema.stored_intermediate_value(value),
                )

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store one step's value, as ``report`` does."""
        self.report(trial_id, {step: intermediate_value})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute, if this worker owns the trial."""
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            set_attribute(connection, schema.optuna_tables().user_attributes, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute, if this worker owns the trial."""
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            set_attribute(connection, schema.optuna_tables().system_attributes, trial_id, key, value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change a trial's state by compare-and-swap.

        Returns:
            False where the trial should start but no longer waits: somebody else took it.

        Raises:
            LeaseLost: If another worker owns the trial.
            UpdateFinishedTrialError: If it is finished.
        """
        tables = schema.optuna_tables()
        trial = tables.trials.c.trial_id == trial_id
        with self.owned(trial_id) as connection:
            now = schema.database_now(connection)
            if state == TrialState.RUNNING:
                started = connection.execute(
                    tables.trials.update()
                    .where(trial, tables.trials.c.state == TrialState.WAITING)
                    .values(state=state, datetime_start=now)
                )
                if started.rowcount == 0:
                    _check_unfinished(connection, trial_id)
                    return False
                take_lease(connection, trial_id, self.owner)
                return True
            changed = connection.execute(
                tables.trials.update()
                .where(trial, tables.trials.c.state.not_in(schema.FINISHED))
                .values(state=state, **({"datetime_complete": now} if state.is_finished() else {}))
            )
            if changed.rowcount == 0:
                _check_unfinished(connection, trial_id)
            for objective, value in enumerate(values or ()):
                schema.upsert(
                    connection,
                    tables.values,
                    {"trial_id": trial_id, "objective": objective},
                    schema.stored_value(value),
                )
        return True

    def _owner_of(self, connection: sqlalchemy.Connection, trial_id: int) -> str | None:
        attributes = schema.optuna_tables().system_attributes
        text = connection.execute(
            sqlalchemy.select(attributes.c.value_json).where(
                attributes.c.trial_id == trial_id, attributes.c.key == OWNER
            )
        ).scalar_one_or_none()
        return None if text is None else json.loads(text)


def take_lease(connection: sqlalchemy.Connection, trial_id: int, owner: str) -> None:
    """Make a worker the owner of a trial from now on, whoever owned it before."""
    tables = schema.optuna_tables()
    set_attribute(connection, tables.system_attributes, trial_id, OWNER, owner)
    schema.upsert(connection, tables.heartbeats, {"trial_id": trial_id}, {"heartbeat": schema.database_now(connection)})


def set_attribute(
    connection: sqlalchemy.Connection, table: sqlalchemy.Table, trial_id: int, key: str, value: Any
) -> None:
    """Write an attribute as Optuna does, without asking who owns the trial."""
    schema.upsert(connection, table, {"trial_id": trial_id, "key": key}, {"value_json": json.dumps(value)})


def _check_unfinished(connection: sqlalchemy.Connection, trial_id: int) -> None:
    trials = schema.optuna_tables().trials
    row = connection.execute(
        sqlalchemy.select(trials.c.number, trials.c.state).where(trials.c.trial_id == trial_id)
    ).one_or_none()
    if row is None:
        raise KeyError(f"There is no trial with the id {trial_id}: its study was deleted.")
    if row.state.is_finished():
        raise UpdateFinishedTrialError(f"Trial {row.number} is {row.state.name} and can't be changed.")
