"""One study in memory, for a worker that runs many trials at once: Optuna works on it, and writes go out together."""

import copy
import datetime
import threading
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..attributes import OWNER, PAUSED
from ..interventions import Request
from ..optuna_private import FrozenStudy, id_of_trial
from . import schema
from .control import Answer, answered, read_requests
from .frozen_trials import local_time
from .handing_back import fail_trial, put_back
from .identity import check_study
from .idle import count_idle
from .leased_storage import LeasedStorage
from .leases import LeaseCheck, LeaseLost, renew_leases
from .pending_writes import PendingWrites, TrialEnd, write_pending
from .study_memory import Outline, StudyMemory, with_attribute


class BufferedStorage(BaseStorage):
    """One study as an Optuna storage that never waits for the database.

    Samplers, pruners, ``optuna.Trial`` and ``study.tell`` see the study as it was at the last ``refresh``, with what
    this worker did since; `StudyMemory` says what may be older of trials that others run. Writes on this worker's own
    trials, which run and carry its lease, change memory at once and reach the database with the next ``flush``, all in
    one transaction; what is not flushed when the worker dies is lost. Trials come from ``tickets.claim_tickets``, and
    are known here after a ``refresh`` or ``read_anew``.

    One thread uses it. Another may call ``renew``.

    Raises:
        FatalError: If the study was deleted.
        StorageInternalError: If the database cannot be read.
    """

    def __init__(self, backend: LeasedStorage, study_id: int) -> None:
        self._backend = backend
        self._study_id = study_id
        self._name = backend.get_study_name_from_id(study_id)
        self._directions = backend.get_study_directions(study_id)
        self._memory = StudyMemory(study_id)
        self._pending: dict[int, PendingWrites] = {}  # its keys are this worker's trials
        self._held_back: set[int] = set()
        self._requests: dict[int, dict[str, Request]] = {}
        self._clock_offset = datetime.timedelta()  # a server's clock against this host's
        self._database = threading.Lock()  # one transaction at a time: SQLite's writers would sleep for each other
        self.refresh()

    @property
    def own_trials(self) -> frozenset[int]:
        """Optuna's ids of the trials that this worker runs; those that ended count until that is flushed."""
        return frozenset(self._pending)

    @property
    def n_idle(self) -> int:
        """How many workers of the study had found nothing to do, shortly before it was last read."""
        return count_idle(self._memory.system_attrs, now=schema.utc_now() + self._clock_offset)

    def serve(self, owner: str) -> None:
        """Go on as another worker, with its trials as far as they are known; what was pending of others is dropped."""
        self._backend.owner, self._pending = owner, {}
        self._held_back.clear()
        self._take_in([trial for trial in self._memory.trials if trial.state == TrialState.RUNNING])

    def refresh(self) -> None:
        """Read what other workers have changed; own trials stay as in memory, and finished ones are not read again.

        Raises:
            FatalError: If the study was deleted.
            StorageInternalError: If the database cannot be read; the trials are as they were then.
        """
        with self._database:
            with schema.reading(self._backend.engine) as connection:
                check_study(connection, self._study_id, known=self._backend.known_studies)
                self._clock_offset = schema.database_now(connection) - schema.utc_now()
                found, outlines = self._memory.read_briefly(connection, besides=self._pending)
                self._requests = read_requests(connection, self._pending)
            self._take_in(found, outlines)

    def read_anew(self, trial_ids: Collection[int], *, asked: Collection[int] = ()) -> None:
        """Read some trials, those that are new, and what was ``asked`` of some, between two of ``refresh``."""
        with self._database:
            with schema.reading(self._backend.engine) as connection:
                found = self._memory.read_new(connection, with_ids=trial_ids)
                self._requests |= read_requests(connection, asked)
            self._take_in(found)

    def requests(self, trial_id: int) -> Mapping[str, Request]:
        """Return what was asked of an own trial and is not answered, as of the last ``refresh``: by key, in order."""
        answered = self._pending[trial_id].system_attributes
        return {key: asked for key, asked in self._requests.get(trial_id, {}).items() if key not in answered}

    def answer(self, trial_id: int, key: str, request: Request, answer: Answer) -> None:
        """Answer a request; raises as ``set_trial_param`` does."""
        self.set_trial_system_attr(trial_id, key, answered(request, answer))
        self._requests.get(trial_id, {}).pop(key, None)

    def flush(self) -> LeaseCheck:
        """Write what is pending, except of trials that are held back, and renew the leases on all own trials.

        Returns:
            What the leases were worth. What was pending of ``lost`` and ``ended`` trials is dropped; in memory they are
            as in the database, and no longer this worker's.

        Raises:
            FatalError: If the study was deleted, or is no longer the one that this worker was begun with.
            StorageInternalError: If the database is locked, full or gone; everything stays pending.
        """
        return self.hand_back(())

    def hand_back(self, trial_ids: Collection[int]) -> LeaseCheck:
        """Do what ``flush`` does, and give those own trials back that are ``held`` and have not ended."""
        with self._database:
            if not self._pending:
                return LeaseCheck()
            with schema.transaction(self._backend.engine) as connection:
                schema.take_write_lock(connection)
                if self._backend.known_studies:
                    check_study(connection, self._study_id, known=self._backend.known_studies)
                check = renew_leases(connection, self._pending, self._backend.owner)
                written = {trial_id: self._pending[trial_id] for trial_id in check.held - self._held_back}
                write_pending(connection, written)
                finished = {trial_id for trial_id, pending in written.items() if pending.end is not None}
                parked = {trial_id for trial_id in written if self.get_trial(trial_id).state == TrialState.WAITING}
                given = (check.held.intersection(trial_ids) - finished) | parked
                if given:
                    put_back(connection, given)
                gone = check.lost | check.ended | (given - written.keys())
                reread = self._memory.read(connection, gone)
            self._pending |= {trial_id: PendingWrites() for trial_id in written}
            for trial_id in finished | gone | given:
                del self._pending[trial_id]
            self._memory.given_back(given - gone)
            self._held_back &= self._pending.keys()
            self._memory.finished(finished)
            self._take_in(reread)
        return check

    def park(self, trial_id: int, *, mark: str = PAUSED) -> None:
        """Let an own trial wait from the next ``flush`` on: PAUSED until its promotion, HELD until it is resumed."""
        self.set_trial_system_attr(trial_id, mark, value=True)
        trial, _ = self._copy(trial_id)
        self.release(trial_id)
        trial.state = TrialState.WAITING
        self._memory.put(trial)

    def fail(self, trial_id: int, *, reason: str, retries: int) -> bool:
        """End an own trial that raised as FAIL, with what is pending of it, and queue a retry while ``retries`` last.

        Returns:
            Whether a retry was queued.

        Raises:
            LeaseLost: If it is no longer this worker's.
            UpdateFinishedTrialError: If it was ended from outside.
            StorageInternalError: If the database is locked, full or gone.
        """
        self._check_own(trial_id)
        self.release(trial_id)
        self.flush()
        self._check_own(trial_id)
        with self._database:
            queued = fail_trial(self._backend, self.get_trial(trial_id), reason=reason, retries=retries)
            del self._pending[trial_id]
        self.refresh()
        return queued

    def renew(self) -> LeaseCheck:
        """Renew the leases on all own trials from any thread, and return what they were worth; nothing is dropped."""
        with self._database:
            if not (own := self.own_trials):
                return LeaseCheck()
            with schema.transaction(self._backend.engine) as connection:
                schema.take_write_lock(connection)
                return renew_leases(connection, own, self._backend.owner)

    def hold(self, trial_id: int) -> None:
        """Keep what is pending of an own trial in memory until it is released, so that no death is blamed on it."""
        self._check_own(trial_id)
        self._held_back.add(trial_id)

    def release(self, trial_id: int) -> None:
        """Let the next ``flush`` write what is pending of a trial."""
        self._held_back.discard(trial_id)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Draw a parameter of an own trial.

        Raises:
            ValueError: If the study draws it from something incompatible.
            LeaseLost: If the trial is not this worker's.
            UpdateFinishedTrialError: If it is finished.
        """
        trial, pending = self._copy(trial_id)
        first = self._memory.first_distributions.setdefault(param_name, distribution)
        check_distribution_compatibility(first, distribution)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        pending.params[param_name] = (param_value_internal, distribution)
        self._memory.put(trial)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Report a step of an own trial; raises as ``set_trial_param`` does."""
        trial, pending = self._copy(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}
        pending.reports[step] = intermediate_value
        self._memory.put(trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of an own trial; raises as ``set_trial_param`` does."""
        trial, pending = self._copy(trial_id)
        trial.user_attrs = with_attribute(trial.user_attrs, key, value)
        pending.user_attributes[key] = trial.user_attrs[key]
        self._memory.put(trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of an own trial; raises as ``set_trial_param`` does."""
        trial, pending = self._copy(trial_id)
        trial.system_attrs = with_attribute(trial.system_attrs, key, value)
        pending.system_attributes[key] = trial.system_attrs[key]
        self._memory.put(trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End an own trial; raises as ``set_trial_param`` does.

        Returns:
            False for the state RUNNING: trials are started by ``claim_tickets``.

        Raises:
            ValueError: For the state WAITING: trials are given back by ``hand_back``.
        """
        if state == TrialState.RUNNING:
            self._check_unfinished(trial_id)
            return False
        if state == TrialState.WAITING:
            raise ValueError(f"Trial {self.get_trial(trial_id).number} is made to wait by hand_back, not by its state.")
        trial, pending = self._copy(trial_id)
        at = schema.utc_now() + self._clock_offset
        pending.end = TrialEnd(state=state, at=at, values=tuple(values or ()))
        trial.state = state
        trial.datetime_complete = max(filter(None, (local_time(at), trial.datetime_start)))
        if values is not None:
            trial.values = list(values)
        self._memory.put(trial)
        return True

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; later writes leave what is returned as it is."""
        return self._memory.trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the study's trials by number, those in some states only where these are given."""
        trials = [trial for trial in self._memory_of(study_id).trials if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the study's id, if it is the one asked for."""
        if study_name != self._name:
            raise KeyError(f"This storage holds the study {self._name!r} alone, not {study_name!r}.")
        return self._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the study's name."""
        self._memory_of(study_id)
        return self._name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the study's directions."""
        self._memory_of(study_id)
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's user attributes."""
        return self._memory_of(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's system attributes."""
        return self._memory_of(study_id).system_attrs

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the one study."""
        attributes = copy.deepcopy((self._memory.user_attrs, self._memory.system_attrs))
        return [FrozenStudy(self._name, None, *attributes, self._study_id, directions=self._directions)]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a user attribute of the study, in the database at once."""
        memory = self._memory_of(study_id)
        self._backend.set_study_user_attr(study_id, key, value)
        memory.user_attrs = with_attribute(memory.user_attrs, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of the study, in the database at once."""
        memory = self._memory_of(study_id)
        self._backend.set_study_system_attr(study_id, key, value)
        memory.system_attrs = with_attribute(memory.system_attrs, key, value)

    def create_new_study(self, *_arguments: object, **_options: object) -> int:
        """Refuse: one study is all there is."""
        raise NotImplementedError(f"Only the study {self._name!r} is here. Create others in the database's storage.")

    def delete_study(self, *_arguments: object, **_options: object) -> None:
        """Refuse: one study is all there is."""
        raise NotImplementedError(f"The study {self._name!r} is deleted in the database's storage.")

    def create_new_trial(self, *_arguments: object, **_options: object) -> int:
        """Refuse: what ``study.ask`` or ``study.enqueue_trial`` create has no ticket."""
        raise NotImplementedError("Trials that run in a buffer are claimed: use claim_tickets, then refresh.")

    def _take_in(self, found: Sequence[FrozenTrial], outlines: Mapping[int, Outline] | None = None) -> None:
        """Remember what was read of trials that are not this worker's, or were not until now."""
        self._memory.take_in(found, outlines)
        for trial in found:
            if trial.state == TrialState.RUNNING and trial.system_attrs.get(OWNER) == self._backend.owner:
                self._pending[id_of_trial(trial)] = PendingWrites()
                self._memory.claimed(id_of_trial(trial))

    def _copy(self, trial_id: int) -> tuple[FrozenTrial, PendingWrites]:
        """Return a copy of an own trial to change and put back, and what is pending of it."""
        self._check_own(trial_id)
        return copy.copy(self.get_trial(trial_id)), self._pending[trial_id]

    def _memory_of(self, study_id: int) -> StudyMemory:
        if study_id != self._study_id:
            raise KeyError(f"This storage holds the study with the id {self._study_id} alone, not {study_id}.")
        return self._memory

    def _check_unfinished(self, trial_id: int) -> None:
        trial = self.get_trial(trial_id)
        if trial.state.is_finished():
            raise UpdateFinishedTrialError(f"Trial {trial.number} is {trial.state.name} and can't be changed.")

    def _check_own(self, trial_id: int) -> None:
        self._check_unfinished(trial_id)
        if trial_id not in self._pending:
            raise LeaseLost(f"the trial is not held by this worker ({self._backend.owner})")
