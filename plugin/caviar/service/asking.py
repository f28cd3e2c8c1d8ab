"""Optuna as a service: a study that anything may ask for parameters and tell what came of them.

Budgets and leases are those of our own workers. Each trial that is given out has a lease of its own, which the client
sends with all that it says of the trial: a client that was silent for longer than ``lease_s`` has lost it.
"""

import dataclasses
import json
import math
import secrets
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import ASKED, OWNER, STUDY_UID
from ..errors import SpecError
from ..imports import describe_error
from ..metrics import Direction
from ..optuna_private import id_of_study, id_of_trial
from ..search.pruners import make_pruner
from ..search.samplers import make_sampler_factory, try_sampler
from ..space import SearchSpace, parse_space, space_table
from ..spec import SearchSpec
from ..storage.database import creation_lock, new_owner
from ..storage.handing_back import fail_trial, hand_back, hand_back_expired
from ..storage.leased_storage import LeasedStorage
from ..storage.leases import LeaseLost
from ..storage.overview import count_trials
from ..storage.studies import check_still_there, open_study, remove_orphans
from ..storage.tickets import claim_tickets
from .answers import Conflict, NotThere
from .network_study import check_search

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

MAX_PARAMETERS: Final = 200
#: After so many failures, beyond twice the budget, a study gives out nothing more: its objective is broken.
_FAILURES: Final = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedSpec:
    """What an asked study was created with.

    Attributes:
        direction: Which way its metric is optimised.
        metric: What its clients measure, by any name.
        space: What is drawn, with names of the clients' own.
        search: Budget, sampler, pruner, lease and retries.
        seed: From which every draw derives.
        max_steps: The last step that a trial may report, plus one; hyperband shares it out.
    """

    direction: Direction
    metric: str
    space: SearchSpace
    search: SearchSpec
    seed: int
    max_steps: int

    def table(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        search = self.search
        return {
            "direction": str(self.direction),
            "metric": self.metric,
            "space": space_table(self.space),
            "trials": search.trials,
            "sampler": search.sampler,
            "sampler_options": dict(search.sampler_options),
            "pruner": search.pruner,
            "pruner_options": dict(search.pruner_options),
            "lease_s": search.lease_s,
            "retries": search.retries,
            "seed": self.seed,
            "max_steps": self.max_steps,
        }


def parse_asked(table: Mapping[str, Any]) -> AskedSpec:
    """Check what a study shall be created with, and return it.

    Args:
        table: As ``AskedSpec.table`` has it, with types and ranges checked; a parameter of the space may also have
            ``type``, ``float`` or ``int``, for clients whose language cannot tell 1.0 from 1.

    Raises:
        SpecError: If the space, the sampler, the pruner or an option is not allowed.
    """
    keys = ("trials", "sampler", "sampler_options", "pruner", "pruner_options", "lease_s", "retries")
    search = SearchSpec(**{key: table[key] for key in keys})
    check_search(search)
    if search.pruner == "promotion":
        raise SpecError(
            "The pruner 'promotion' pauses trials, which a client cannot. Use successive_halving or median."
        )
    if len(table["space"]) > MAX_PARAMETERS:
        raise SpecError(f"The space has {len(table['space'])} parameters, and at most {MAX_PARAMETERS} are allowed.")
    space = parse_space({name: _typed(name, entry) for name, entry in table["space"].items()}, own_names=True)
    spec = AskedSpec(
        direction=Direction(table["direction"]),
        metric=table["metric"],
        space=space,
        search=search,
        seed=table["seed"],
        max_steps=table["max_steps"],
    )
    try_sampler(search, space, make_sampler_factory(search, space, seed=spec.seed))
    make_pruner(search, epochs=spec.max_steps)
    return spec


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
        self._cached: BaseStorage = optuna.storages.get_storage(storage)  # finished trials are read once
        self._make_sampler = make_sampler_factory(spec.search, spec.space, seed=spec.seed)
        self._pruner = make_pruner(spec.search, epochs=spec.max_steps)
        self._lock = threading.Lock()

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
        owner = f"{new_owner().rpartition(':')[0]}:{secrets.token_hex(16)}"
        with self._lock:
            self._check_failures()
            self._storage.owner = owner
            claimed = claim_tickets(
                self._storage,
                self._study_id,
                n=1,
                budget=search.trials,
                lease_s=search.lease_s,
                retries=search.retries,
            )
            if isinstance(claimed, str):
                return {"state": claimed}
            ticket = claimed[0]
            study = self._fresh_study()
            try:
                study.sampler = self._make_sampler(ticket.origin, study)
                hyperparameters = self.spec.space.suggest(optuna.Trial(study, ticket.trial_id))
            except Exception as error:
                hand_back(self._storage, ticket.trial_id)
                if isinstance(error, TypeError | ValueError | ArithmeticError | LookupError | AttributeError):
                    message = f"The sampler {search.sampler!r} raised {describe_error(error)}. Check its options."
                    raise Conflict(message) from error
                raise
            trial = self._cached.get_trial(ticket.trial_id)
        return {
            "state": "trial",
            "number": ticket.number,
            "lease": owner,
            "lease_s": search.lease_s,
            "params": trial.params,
            "hyperparameters": hyperparameters,
            "last_step": trial.last_step,
        }

    def report(self, number: int, *, lease: str, step: int, value: float) -> bool:
        """Store a trial's value at a step, and return whether the trial should end here.

        Raises:
            LeaseLost: If the lease has run out, or the trial has ended.
            Conflict: If there is no such step.
        """
        if step >= self.spec.max_steps:
            raise Conflict(f"The last step is {self.spec.max_steps - 1}, but got {step}. Create with more max_steps.")
        with self._held(number, lease) as trial:
            if step in trial.intermediate_values:  # Optuna keeps the first, too
                self._storage.renew(id_of_trial(trial))
            else:
                self._storage.report(id_of_trial(trial), {step: value})
            judged = self._cached.get_trial(id_of_trial(trial))
            return bool(self._pruner.prune(self._fresh_study(), judged))

    def renew(self, number: int, *, lease: str) -> None:
        """Renew a lease.

        Raises:
            LeaseLost: If it has run out, or the trial has ended.
        """
        with self._held(number, lease) as trial:
            self._storage.renew(id_of_trial(trial))

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
        ended = self._trial(number)
        if ended.state == state and ended.system_attrs.get(OWNER) == lease:
            if state != TrialState.COMPLETE or ended.value == value:
                return False
            raise LeaseLost(f"Trial {number} has ended already, with {ended.value}.")
        with self._held(number, lease) as trial:
            trial_id = id_of_trial(trial)
            if state == TrialState.FAIL:
                fail_trial(self._storage, trial, reason=reason, retries=self.spec.search.retries)
                return True
            if state == TrialState.PRUNED:
                if trial.last_step is None:
                    raise Conflict(f"Trial {number} reported nothing, so it has no value to be pruned with. Tell fail.")
                value = trial.intermediate_values[trial.last_step]
            assert value is not None
            assert math.isfinite(value)
            self._storage.set_trial_state_values(trial_id, state, [value])
        return True

    def status(self) -> dict[str, Any]:
        """Return how the study stands, and what it was created with."""
        counts = count_trials(self._storage, self._study_id)
        return {
            "study": self.name,
            **self.spec.table(),
            "counts": {state.name.lower(): n for state, n in counts.items()},
            "best": self.best(),
        }

    def best(self) -> dict[str, Any] | None:
        """Return the best complete trial, of equal ones the first; None before there is one."""
        best = min(self.complete_trials(), key=lambda trial: self.spec.direction.cost(trial.value or 0.0), default=None)
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
        return self._cached.get_all_trials(self._study_id, deepcopy=False)

    def _trial(self, number: int) -> FrozenTrial:
        found = self._trials()
        if not 0 <= number < len(found):
            raise NotThere(f"The study {self.name!r} has no trial {number}.")
        return found[number]

    def _fresh_study(self) -> optuna.Study:
        """Return the study anew: it remembers the trials that it has read."""
        return optuna.Study(self.name, storage=self._cached, pruner=self._pruner)

    def _check_failures(self) -> None:
        failed = count_trials(self._storage, self._study_id)[TrialState.FAIL]
        if failed >= _FAILURES + 2 * self.spec.search.trials:
            raise Conflict(f"{failed} trials of {self.name!r} have failed, which is too many. Mend what trains them.")

    @contextmanager
    def _held(self, number: int, lease: str) -> Iterator[FrozenTrial]:
        """Give a trial to be written for the client whose lease it is.

        Raises:
            LeaseLost: If the lease has run out, whether or not somebody else has the trial by now.
        """
        search = self.spec.search
        with self._lock:
            hand_back_expired(self._storage, self._study_id, lease_s=search.lease_s, retries=search.retries)
            trial = self._trial(number)
            if trial.state != TrialState.RUNNING or trial.system_attrs.get(OWNER) != lease:
                what = "is given out anew" if not trial.state.is_finished() else f"has ended as {trial.state.name}"
                raise LeaseLost(f"This lease on trial {number} has run out: the trial {what}. Ask for another one.")
            self._storage.owner = lease
            self._storage.remember_lease(id_of_trial(trial))
            yield trial


def _typed(name: str, entry: Any) -> Any:
    """Return a parameter of a space without its ``type``, its ends of that type."""
    if not isinstance(entry, Mapping) or "type" not in entry:
        return entry
    kind, rest = entry["type"], {key: value for key, value in entry.items() if key != "type"}
    ends = {key: rest[key] for key in ("low", "high") if key in rest}
    if kind not in ("float", "int") or "choices" in rest:
        raise SpecError(f"space.{name}.type must be float or int, and only of a range, but got {kind!r}.")
    for key, value in ends.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or (kind == "int" and value != int(value)):
            raise SpecError(f"space.{name}.{key} must be a number of the type {kind}, but got {value!r}.")
    return rest | {key: float(value) if kind == "float" else int(value) for key, value in ends.items()}
