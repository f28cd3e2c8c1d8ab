"""Optuna's relational storage, with every write on a trial guarded by its lease."""

import contextlib
import copy
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ..attributes import OWNER
from ..optuna_private import optuna_tables, stored_intermediate_value, stored_value
from . import schema
from .frozen_trials import TrialReader
from .identity import StudyKey, check_study_of_trial
from .leases import LeaseLost, take_lease

_MOST_NAMED: Final = 10_000  # SQLite takes 32,766 values in a statement


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
        self._ever_leased: set[int] = set()
        #: The studies that this worker or command was begun with, by Optuna's ids; it writes on no other of their name.
        self.known_studies: dict[int, StudyKey] = {}

    def as_worker(self, owner: str) -> "LeasedStorage":
        """Return this storage for another worker in this process; both use the same connections."""
        other = copy.copy(self)
        other.owner, other._ever_leased, other.known_studies = owner, set(), dict(self.known_studies)
        return other

    def remember_lease(self, trial_id: int) -> None:
        """Note that this worker was given a trial: from then on it writes about it only while it holds the lease."""
        self._ever_leased.add(trial_id)

    @contextlib.contextmanager
    def owned(self, trial_id: int, *, claims: bool = False) -> Iterator[sqlalchemy.Connection]:
        """Open a transaction that holds this worker's lease on a trial, renewed.

        The first statement is the guard and a write, so that it takes SQLite's write lock before anything is read.
        A trial that nobody owns can be written by whoever never owned it, as in stock Optuna.

        Args:
            trial_id: Optuna's id of the trial.
            claims: Whether the transaction numbers a new trial, so that it needs the study's lock too.

        Raises:
            LeaseLost: If another worker owns the trial, or this one did and no longer does.
            FatalError: If its study is no longer the one that this worker was begun with.
        """
        tables = optuna_tables()
        with schema.transaction(self.engine) as connection:
            if claims:
                study_id = sqlalchemy.select(tables.trials.c.study_id).where(tables.trials.c.trial_id == trial_id)
                schema.begin_claim(connection, study_id.scalar_subquery())
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
            if not self._may_write(connection, trial_id, renewed=renewed.rowcount > 0):
                raise LeaseLost(f"the trial is no longer held by this worker ({self.owner})")
            if self.known_studies:
                check_study_of_trial(connection, trial_id, known=self.known_studies)
            yield connection

    def renew(self, trial_id: int) -> None:
        """Renew this worker's lease on a trial.

        Raises:
            LeaseLost: If another worker owns the trial, or it no longer runs.
        """
        with self.owned(trial_id) as connection:
            trials = optuna_tables().trials
            state = connection.execute(
                sqlalchemy.select(trials.c.state).where(trials.c.trial_id == trial_id)
            ).scalar_one_or_none()
        if state != TrialState.RUNNING:
            raise LeaseLost(f"the trial was ended from outside: it is {getattr(state, 'name', 'deleted')}")

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
                    optuna_tables().intermediate_values,
                    {"trial_id": trial_id, "step": step},
                    stored_intermediate_value(value),
                )

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store one step's value, as ``report`` does."""
        self.report(trial_id, {step: intermediate_value})

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read a study's trials, a statement a table: Optuna's way makes an object of every row, in six times the time.

        Private to Optuna, whose cache asks for trials by no other way.

        Args:
            study_id: Optuna's.
            states: Those of the trials that are wanted, or None for all.
            included_trial_ids: Trials that are wanted though their id is not greater.
            trial_id_greater_than: The rest have a greater id.

        Raises:
            KeyError: If there is no such study.
            StorageInternalError: If the database cannot be read.
        """
        tables = optuna_tables()
        trials = tables.trials
        newest = trial_id_greater_than
        if len(included_trial_ids) > _MOST_NAMED:
            newest = min(newest, *included_trial_ids) - 1  # more is no harm
            included_trial_ids = set()
        wanted = (trials.c.trial_id > newest) | trials.c.trial_id.in_(sorted(included_trial_ids))
        with schema.transaction(self.engine) as connection:
            known = sqlalchemy.select(tables.studies.c.study_id).where(tables.studies.c.study_id == study_id)
            if connection.execute(known).first() is None:
                raise KeyError(f"There is no study with the id {study_id}.")
            found = TrialReader().read(connection, (trials.c.study_id == study_id) & wanted)
        return [trial for trial in found if states is None or trial.state in states]

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """Store a parameter, if this worker owns the trial.

        Optuna's cache in front of this storage calls this private method and not ``set_trial_param``. Optuna's own
        would drop the value in silence where a late worker has stored another.
        """
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            previous = previous_distribution or _first_distribution(connection, trial_id, param_name)
            if previous is not None:
                check_distribution_compatibility(previous, distribution)
            schema.upsert(
                connection,
                optuna_tables().params,
                {"trial_id": trial_id, "param_name": param_name},
                {"param_value": param_value_internal, "distribution_json": distribution_to_json(distribution)},
            )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute, if this worker owns the trial."""
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            set_attribute(connection, optuna_tables().user_attributes, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute, if this worker owns the trial."""
        with self.owned(trial_id) as connection:
            _check_unfinished(connection, trial_id)
            set_attribute(connection, optuna_tables().system_attributes, trial_id, key, value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change a trial's state by compare-and-swap.

        Returns:
            False where the trial should start but no longer waits: somebody else took it.

        Raises:
            LeaseLost: If another worker owns the trial.
            UpdateFinishedTrialError: If it is finished.
        """
        tables = optuna_tables()
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
                self.remember_lease(trial_id)
                return True
            changed = connection.execute(
                tables.trials.update()
                .where(trial, tables.trials.c.state.not_in(schema.FINISHED))
                .values(state=state, **(schema.end_values(now) if state.is_finished() else {}))
            )
            if changed.rowcount == 0:
                _check_unfinished(connection, trial_id)
            for objective, value in enumerate(values or ()):
                schema.upsert(
                    connection,
                    tables.values,
                    {"trial_id": trial_id, "objective": objective},
                    stored_value(value),
                )
        return True

    def _may_write(self, connection: sqlalchemy.Connection, trial_id: int, *, renewed: bool) -> bool:
        """Tell whether a trial may be written, after the guard's update.

        On PostgreSQL an update that waited for a row sees that row anew, but the owner, which is another row, as it was
        before it waited: so the owner is read once more, by a statement that sees what has been committed since.
        """
        if renewed and connection.dialect.name == "sqlite":
            return True
        owner = self._owner_of(connection, trial_id)
        return owner == self.owner if renewed else owner is None and trial_id not in self._ever_leased

    def _owner_of(self, connection: sqlalchemy.Connection, trial_id: int) -> str | None:
        attributes = optuna_tables().system_attributes
        text = connection.execute(
            sqlalchemy.select(attributes.c.value_json).where(
                attributes.c.trial_id == trial_id, attributes.c.key == OWNER
            )
        ).scalar_one_or_none()
        return None if text is None else json.loads(text)


def set_attribute(
    connection: sqlalchemy.Connection, table: sqlalchemy.Table, trial_id: int, key: str, value: Any
) -> None:
    """Write an attribute as Optuna does, without asking who owns the trial."""
    schema.upsert(connection, table, {"trial_id": trial_id, "key": key}, {"value_json": json.dumps(value)})


def _first_distribution(connection: sqlalchemy.Connection, trial_id: int, param_name: str) -> BaseDistribution | None:
    """Return what the parameter is drawn from in the first trial of the study that has it."""
    tables = optuna_tables()
    own_study = sqlalchemy.select(tables.trials.c.study_id).where(tables.trials.c.trial_id == trial_id)
    text = connection.execute(
        sqlalchemy.select(tables.params.c.distribution_json)
        .join(tables.trials, tables.trials.c.trial_id == tables.params.c.trial_id)
        .where(tables.trials.c.study_id == own_study.scalar_subquery(), tables.params.c.param_name == param_name)
        .limit(1)
    ).scalar_one_or_none()
    return None if text is None else json_to_distribution(text)


def _check_unfinished(connection: sqlalchemy.Connection, trial_id: int) -> None:
    trials = optuna_tables().trials
    row = connection.execute(
        sqlalchemy.select(trials.c.number, trials.c.state).where(trials.c.trial_id == trial_id)
    ).one_or_none()
    if row is None:
        raise KeyError(f"There is no trial with the id {trial_id}: its study was deleted.")
    if row.state.is_finished():
        raise UpdateFinishedTrialError(f"Trial {row.number} is {row.state.name} and can't be changed.")
