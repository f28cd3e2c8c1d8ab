"""Optuna's relational storage, with every write on a trial guarded by its lease."""

import contextlib
import copy
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ..attributes import OWNER
from ..optuna_private import optuna_tables
from . import schema
from .frozen_trials import TrialReader
from .identity import StudyKey, check_study
from .leases import LeaseLost, read_attributes, renew_leases, take_leases
from .pending_writes import PendingWrites, TrialEnd, write_pending

_MOST_NAMED: Final = 10_000  # SQLite takes 32,766 values in a statement


class LeasedStorage(RDBStorage):
    """Optuna's ``RDBStorage`` for one worker: a plain Optuna database, in which two workers never run one trial.

    Only its owner writes about a trial that has one. Every write first renews the lease in the same transaction, so a
    worker that was stopped for longer than its lease writes nothing. Its ``owner`` is the worker: ``host:pid:token``.
    """

    def __init__(self, url: str, *, owner: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.owner = owner
        #: Optuna's ids of the trials that this worker was ever given; it writes about them only while it holds a lease.
        self.ever_leased: set[int] = set()
        #: The studies that this worker or command was begun with, by Optuna's ids; it writes on no other of their name.
        self.known_studies: dict[int, StudyKey] = {}

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.remove_session()
        self.engine.dispose()

    def as_worker(self, owner: str) -> "LeasedStorage":
        """Return this storage for another worker in this process; both use the same connections."""
        other = copy.copy(self)
        other.owner, other.ever_leased, other.known_studies = owner, set(), dict(self.known_studies)
        return other

    @contextlib.contextmanager
    def owned(self, trial_id: int, *, claims: bool = False) -> Iterator[sqlalchemy.Connection]:
        """Open a transaction that holds this worker's lease on an unfinished trial, renewed.

        A trial that nobody owns can be written by whoever never owned it, as in stock Optuna. A transaction that
        ``claims``, that is, numbers a new trial, takes the study's lock too.

        Raises:
            LeaseLost: If another worker owns the trial, or this one did and no longer does.
            FatalError: If its study is no longer the one that this worker was begun with.
            UpdateFinishedTrialError: If it is finished.
        """
        trials = optuna_tables().trials
        study_id = sqlalchemy.select(trials.c.study_id).where(trials.c.trial_id == trial_id).scalar_subquery()
        with schema.transaction(self.engine) as connection:
            if claims:
                schema.begin_claim(connection, study_id)
            else:
                schema.take_write_lock(connection)
            if trial_id in renew_leases(connection, [trial_id], self.owner).lost:
                owned = read_attributes(connection, [trial_id], OWNER)
                if owned or trial_id in self.ever_leased:
                    raise LeaseLost(f"the trial is no longer held by this worker ({self.owner})")
            if self.known_studies:
                check_study(connection, study_id, known=self.known_studies)
            check_unfinished(connection, trial_id)
            yield connection

    def renew(self, trial_id: int) -> None:
        """Renew this worker's lease on a trial.

        Raises:
            LeaseLost: If another worker owns the trial, or it no longer runs.
        """
        try:
            with self.owned(trial_id):
                pass
        except UpdateFinishedTrialError as error:
            raise LeaseLost(f"the trial was ended from outside: {error}") from error

    def report(self, trial_id: int, values: Mapping[int, float]) -> None:
        """Store several steps' values of a trial in one transaction; raises as ``owned`` does."""
        self._write(trial_id, PendingWrites(reports=dict(values)))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store one step's value, as ``report`` does."""
        self.report(trial_id, {step: intermediate_value})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute; raises as ``owned`` does."""
        self._write(trial_id, PendingWrites(user_attributes={key: value}))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute; raises as ``owned`` does."""
        self._write(trial_id, PendingWrites(system_attributes={key: value}))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change an unfinished trial's state; raises as ``owned`` does.

        Returns:
            False where the trial should start but no longer waits: somebody else took it.
        """
        trials = optuna_tables().trials
        with self.owned(trial_id) as connection:
            now = schema.database_now(connection)
            if state.is_finished():
                end = TrialEnd(state=state, at=now, values=values or ())
                write_pending(connection, {trial_id: PendingWrites(end=end)})
                return True
            changed = trials.update().where(trials.c.trial_id == trial_id)
            if state == TrialState.WAITING:
                connection.execute(changed.values(state=state))
                return True
            started = changed.where(trials.c.state == TrialState.WAITING).values(state=state, datetime_start=now)
            if connection.execute(started).rowcount == 0:
                return False
            take_leases(connection, [trial_id], self.owner)
            self.ever_leased.add(trial_id)
            return True

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read a study's trials, a statement a table: Optuna's way makes an object of every row, in six times the time.

        Private to Optuna, whose cache asks for trials by no other way: those with a greater id, and those included.

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
        with schema.reading(self.engine) as connection:
            included = schema.among(connection, trials.c.trial_id, included_trial_ids)
            wanted = (trials.c.trial_id > newest) | included
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
        """Store a parameter; raises as ``owned`` does.

        Optuna's cache in front of this storage calls this private method and not ``set_trial_param``. Optuna's own
        would drop the value in silence where a late worker has stored another.
        """
        with self.owned(trial_id) as connection:
            previous = previous_distribution or _first_distribution(connection, trial_id, param_name)
            if previous is not None:
                check_distribution_compatibility(previous, distribution)
            params = {param_name: (param_value_internal, distribution)}
            write_pending(connection, {trial_id: PendingWrites(params=params)})

    def _write(self, trial_id: int, writes: PendingWrites) -> None:
        with self.owned(trial_id) as connection:
            write_pending(connection, {trial_id: writes})


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


def check_unfinished(connection: sqlalchemy.Connection, trial_id: int) -> None:
    """Raise KeyError if a trial was deleted, and UpdateFinishedTrialError if it has ended."""
    trials = optuna_tables().trials
    row = connection.execute(
        sqlalchemy.select(trials.c.number, trials.c.state).where(trials.c.trial_id == trial_id)
    ).one_or_none()
    if row is None:
        raise KeyError(f"There is no trial with the id {trial_id}: its study was deleted.")
    if row.state.is_finished():
        raise UpdateFinishedTrialError(f"Trial {row.number} is {row.state.name} and can't be changed.")
