"""Optuna as a service: a study that anything may ask for parameters and tell what came of them.

Budgets and leases are those of our own workers. Each trial that is given out has a lease of its own, which the client
sends with all that it says of the trial: a client that was silent for longer than ``lease_s`` has lost it.
"""

import json
import math
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from ..attributes import ASKED, OWNER, STUDY_UID
from ..errors import CaviarError
from ..imports import describe_error
from ..optuna_private import id_of_study, id_of_trial
from ..search.pruners import make_pruner
from ..search.samplers import make_sampler_factory
from ..storage.buffered_storage import BufferedStorage
from ..storage.database import creation_lock
from ..storage.handing_back import hand_back_expired
from ..storage.leased_storage import LeasedStorage
from ..storage.leases import LeaseLost
from ..storage.studies import check_still_there, name_metric, open_study, remove_orphans
from ..storage.tickets import Ticket, claim_tickets
from .answers import Conflict, NotThere
from .asked_spec import AskedSpec, parse_asked

#: After so many failures, beyond twice the budget, a study gives out nothing more: its objective is broken.
_FAILURES: Final = 20
#: Seconds for which an answer that there is no trial holds, unless a trial ends: clients may ask as often as they like.
_NOTHING_S: Final = 0.2
_MOST_LEASES: Final = 10_000


def create_asked(storage: LeasedStorage, name: str, spec: AskedSpec) -> tuple["AskedStudy", bool]:
    """Create a study, or open the one that was created in just this way; say whether it was made now.

    Raises:
        Conflict: If there is another one of this name.
    """
    with creation_lock(storage):
        if name not in optuna.get_all_study_names(storage):
            remove_orphans(storage)
        study = optuna.create_study(
            storage=storage, study_name=name, direction=spec.direction.optuna, load_if_exists=True
        )
        is_new = not study.user_attrs and not study.get_trials(deepcopy=False)
        is_new &= study.directions == [spec.direction.optuna]
        if is_new:  # the definition comes last: a study without it is made anew
            name_metric(study, spec.metric)
            study.set_user_attr(STUDY_UID, uuid.uuid4().hex)
            study.set_user_attr(ASKED, json.dumps(spec.table()))
    if not is_new and json.loads(study.user_attrs.get(ASKED, "null")) != json.loads(json.dumps(spec.table())):
        raise Conflict(f"There is another study {name!r}. Give this one another name.")
    return open_asked(storage, name), is_new


def open_asked(storage: LeasedStorage, name: str) -> "AskedStudy":
    """Open a study that the service created.

    Raises:
        UnknownStudyError: If there is none of this name.
        Conflict: If it was not created to be asked.
    """
    own = storage.as_worker(storage.owner)
    own.known_studies = {}
    study = open_study(own, name)
    if ASKED not in study.user_attrs:
        raise Conflict(f"The study {name!r} has workers of its own, and is not there to be asked.")
    return AskedStudy(own, study, parse_asked(json.loads(study.user_attrs[ASKED])))


class AskedStudy:
    """One study that is asked and told, by any number of clients at once; made by ``create_asked`` and ``open_asked``.

    What writes happens one after the other: every draw and every judgement reads what was written before.
    """

    def __init__(self, storage: LeasedStorage, study: optuna.Study, spec: AskedSpec) -> None:
        self.spec, self.name = spec, study.study_name
        self._study_id = id_of_study(study)
        self._storage, self._study = storage, study
        self._buffer = BufferedStorage(storage, self._study_id)
        self._make_sampler = make_sampler_factory(spec.search, spec.space, seed=spec.seed)
        self._pruner = make_pruner(spec.search, epochs=spec.max_steps)
        self._lock = threading.Lock()
        self._nobody = storage.owner
        self._is_doubtful = False  # whether memory may differ from what is stored, after an error
        self._heard_at_s: dict[str, float] = {}  # lease → when it was last renewed, by this process' clock
        self._nothing: tuple[float, dict[str, Any]] = (0.0, {})  # until when no trial is to be had, and why

    def check_still_there(self) -> None:
        """Raise FatalError if the study was deleted or renamed."""
        check_still_there(self._storage, self._study)

    def ask(self) -> dict[str, Any]:
        """Give out a trial.

        Returns:
            ``state``: ``trial``, ``wait`` while all that is left is being run by others, or ``done``. A trial has
            ``number``, ``lease``, ``lease_s``, ``params`` as Optuna stores them, ``hyperparameters`` as they are meant,
            and ``last_step``: the last one that was reported before its former client fell silent, or None.

        Raises:
            Conflict: If too many trials have failed, or the sampler raises.
        """
        search = self.spec.search
        with self._working():
            if time.monotonic() < self._nothing[0]:
                return self._nothing[1]
            self._check_failures()
            lease = f"{self._nobody.rpartition(':')[0]}:{secrets.token_hex(16)}"
            self._buffer.serve(lease)
            claimed = claim_tickets(
                self._storage,
                self._study_id,
                n=1,
                budget=search.trials,
                lease_s=search.lease_s,
                retries=search.retries,
            )
            if isinstance(claimed, str):
                self._nothing = (time.monotonic() + _NOTHING_S, {"state": claimed})
                return self._nothing[1]
            self._heard_at_s[lease] = time.monotonic()
            self._buffer.refresh()
            hyperparameters = self._draw(claimed[0])
            trial = self._buffer.get_trial(claimed[0].trial_id)
        return {
            "state": "trial",
            "number": trial.number,
            "lease": lease,
            "lease_s": search.lease_s,
            "params": trial.params,
            "hyperparameters": hyperparameters,
            "last_step": trial.last_step,
        }

    def report(self, number: int, *, lease: str, step: int, value: float) -> bool:
        """Store a trial's value at a step, and return whether the trial should end here.

        Raises:
            LeaseLost: If the lease has run out, or the trial has ended.
            Conflict: If there is no such step, or the pruner raises.
        """
        if step >= self.spec.max_steps:
            raise Conflict(f"The last step is {self.spec.max_steps - 1}, but got {step}. Create with more max_steps.")
        with self._held(number, lease) as trial:
            if self.spec.search.pruner != "none":
                self._buffer.refresh()
            if step not in trial.intermediate_values:  # Optuna keeps the first, too
                self._buffer.set_trial_intermediate_value(id_of_trial(trial), step, value)
            try:
                return bool(self._pruner.prune(self._fresh_study(), self._buffer.get_trial(id_of_trial(trial))))
            except Exception as error:
                raise self._raised("pruner", self.spec.search.pruner, error) from error

    def renew(self, number: int, *, lease: str) -> None:
        """Renew a lease.

        Raises:
            LeaseLost: If it has run out, or the trial has ended.
        """
        with self._held(number, lease):
            pass

    def tell(self, number: int, *, lease: str, state: TrialState, value: float | None, reason: str = "") -> bool:
        """End a trial.

        Args:
            number: The trial's.
            lease: The one that ``ask`` gave out.
            state: COMPLETE with a value; PRUNED, whose value is the last one reported; or FAIL.
            value: Of a complete trial, finite.
            reason: Why it failed.

        Returns:
            Whether this ended the trial: False where the same was told before, by a client that missed the answer.

        Raises:
            LeaseLost: If the lease has run out, or the trial has ended in another way.
            Conflict: If a pruned trial has reported nothing.
        """
        if state == TrialState.PRUNED:
            self._trial(number)  # as it is now: it may have reported to another service
        try:
            self._end(number, lease=lease, state=state, value=value, reason=reason)
        except LeaseLost:
            known = self._trial(number)
            if known.state != state or known.system_attrs.get(OWNER) != lease:
                raise
            if state == TrialState.COMPLETE and known.value != value:
                raise LeaseLost(f"Trial {number} has ended already, with {known.value}.") from None
            return False
        return True

    def _end(self, number: int, *, lease: str, state: TrialState, value: float | None, reason: str) -> None:
        with self._held(number, lease) as trial:
            trial_id, self._nothing = id_of_trial(trial), (0.0, {})
            if state == TrialState.FAIL:
                self._buffer.fail(trial_id, reason=reason, retries=self.spec.search.retries)
                return
            if state == TrialState.PRUNED:
                if trial.last_step is None:
                    raise Conflict(f"Trial {number} reported nothing, so it has no value to be pruned with. Tell fail.")
                value = trial.intermediate_values[trial.last_step]
            assert value is not None
            assert math.isfinite(value)
            self._buffer.set_trial_state_values(trial_id, state, [value])

    def status(self) -> dict[str, Any]:
        """Return how the study stands, and what it was created with."""
        trials = self._trials()
        counts = Counter(trial.state for trial in trials)
        return {
            "study": self.name,
            **self.spec.table(),
            "counts": {state.name.lower(): counts[state] for state in TrialState},
            "best": self._best(trials),
        }

    def best(self) -> dict[str, Any] | None:
        """Return the best complete trial, of equal ones the first; None before there is one."""
        return self._best(self._trials())

    def _best(self, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = min(complete, key=lambda trial: self.spec.direction.cost(trial.value or 0.0), default=None)
        return None if best is None else self._describe(best)

    def complete_trials(self) -> list[FrozenTrial]:
        """Return the trials that have a value, by number."""
        return [trial for trial in self._trials() if trial.state == TrialState.COMPLETE]

    def trials(self) -> list[dict[str, Any]]:
        """Return all trials, by number."""
        return [self._describe(trial) for trial in self._trials()]

    def _describe(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "params": trial.params,
            "hyperparameters": self.spec.space.hyperparameters(trial.params),
            "last_step": trial.last_step,
        }

    def _trials(self) -> list[FrozenTrial]:
        """Return all trials as they are now."""
        with self._working():
            self._buffer.serve(self._nobody)
            self._buffer.refresh()
            return self._buffer.get_all_trials(self._study_id, deepcopy=False)

    def _trial(self, number: int, *, known: bool = False) -> FrozenTrial:
        """Return a trial as it is now, or as it was when it was last read."""
        trials = self._buffer.get_all_trials(self._study_id, deepcopy=False) if known else self._trials()
        if not 0 <= number < len(trials):
            raise NotThere(f"The study {self.name!r} has no trial {number}.")
        return trials[number]

    def _fresh_study(self) -> optuna.Study:
        """Return the study anew: it remembers the trials that it has read."""
        return optuna.Study(self.name, storage=self._buffer, pruner=self._pruner)

    def _draw(self, ticket: Ticket) -> dict[str, Any]:
        """Draw a claimed trial's hyperparameters and store them; where that fails, the trial is handed back."""
        study = self._fresh_study()
        self._buffer.hold(ticket.trial_id)
        try:
            study.sampler = self._make_sampler(ticket.origin, study)
            hyperparameters = self.spec.space.suggest(optuna.Trial(study, ticket.trial_id))
        except Exception as error:
            self._buffer.hand_back([ticket.trial_id])
            raise self._raised("sampler", self.spec.search.sampler, error) from error
        self._buffer.release(ticket.trial_id)
        if ticket.trial_id not in self._buffer.flush().held:
            raise LeaseLost(f"Trial {ticket.number} was lost before it was given out. Ask for another one.")
        return hyperparameters

    def _raised(self, what: str, name: str, error: Exception) -> Exception:
        """Return what to raise instead of an error of Optuna's; those of ours and of the database are told as such."""
        if isinstance(error, CaviarError | StorageInternalError):
            return error
        return Conflict(f"The {what} {name!r} raised {describe_error(error)}. Check its options.")

    def _check_failures(self) -> None:
        trials = self._buffer.get_all_trials(self._study_id, deepcopy=False)
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        if failed >= _FAILURES + 2 * self.spec.search.trials:
            raise Conflict(f"{failed} trials of {self.name!r} have failed, which is too many. Mend what trains them.")

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Let one request at a time work on the study. After an error, what is in memory is read anew."""
        with self._lock:
            if self._is_doubtful:
                self._buffer.serve(self._nobody)
                self._buffer.refresh()
                self._is_doubtful = False
            try:
                yield
            except BaseException as error:
                self._is_doubtful = True
                if isinstance(error, KeyError):  # what Optuna raises for what is no longer there
                    self.check_still_there()
                raise

    @contextmanager
    def _held(self, number: int, lease: str) -> Iterator[FrozenTrial]:
        """Give a trial to be written by the client whose lease it is; what was written is stored at the end.

        Raises:
            LeaseLost: If the lease has run out, whether or not somebody else has the trial by now.
        """
        search = self.spec.search
        with self._working():
            heard_at_s = self._heard_at_s.get(lease, -math.inf)
            if time.monotonic() - heard_at_s > search.lease_s:  # or it is not known, since the service was restarted
                hand_back_expired(self._storage, self._study_id, lease_s=search.lease_s, retries=search.retries)
                self._buffer.refresh()
                self._heard_at_s = {}
            self._buffer.serve(lease)
            trial = self._trial(number, known=True)
            if id_of_trial(trial) not in self._buffer.own_trials:
                raise self._lost(trial)
            yield trial
            now_s = time.monotonic()
            if id_of_trial(trial) not in self._buffer.own_trials:  # ended as failed
                return
            if id_of_trial(trial) not in self._buffer.flush().held:
                raise self._lost(self._trial(number, known=True))
            self._heard_at_s[lease] = now_s
            if len(self._heard_at_s) > _MOST_LEASES:
                self._heard_at_s = {}

    def _lost(self, trial: FrozenTrial) -> LeaseLost:
        what = f"has ended as {trial.state.name}" if trial.state.is_finished() else "is given out anew"
        return LeaseLost(f"This lease on trial {trial.number} has run out: the trial {what}. Ask for another one.")
