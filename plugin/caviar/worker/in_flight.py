"""How many trials a worker takes and gives to others, and how it claims them."""

import dataclasses
from collections.abc import Iterable
from typing import Final, Literal, final

from optuna.trial import FrozenTrial, TrialState

from ..attributes import OWNER
from ..optuna_private import id_of_study
from ..sampler_table import known_sampler
from ..search.promotion import is_held, is_paused
from ..spec import SearchSpec
from ..storage.buffered_storage import BufferedStorage
from ..storage.control import claim_trial
from ..storage.tickets import Ticket, claim_tickets
from .crew import Crew
from .promoter import Promoter
from .worker_setup import WorkerSetup

_MOST_OF_A_LEARNER: Final = 32  # with a sampler that learns: many at once would be drawn as if it were blind
_FEWEST: Final = 4  # with a blind sampler, besides the trials that were set aside: fewer are not worth a transaction


def count_open(trials: Iterable[FrozenTrial], *, budget: int) -> tuple[int, int]:
    """Return how many trials are left, new or handed back, and how many the workers have; parked ones are neither."""
    counted = waiting = running = 0
    for trial in trials:
        counted += trial.state != TrialState.FAIL
        waiting += trial.state == TrialState.WAITING and not (is_paused(trial) or is_held(trial))
        running += trial.state == TrialState.RUNNING
    return waiting + max(0, budget - counted), running


def count_workers(trials: Iterable[FrozenTrial], *, owner: str) -> int:
    """Return how many workers are known to share a study: this one, ``owner``, and the others that have trials."""
    owners = {trial.system_attrs.get(OWNER) for trial in trials if trial.state == TrialState.RUNNING}
    return len(owners - {None, owner}) + 1


def trials_to_take(search: SearchSpec, *, in_hand: int, set_aside: int, left: int, running: int) -> int:
    """Return how many trials a worker should take now; its crew may take fewer.

    A sampler that learns has at most an eighth of the budget in flight, over all workers. With a blind one, a worker
    takes its share of all that has not ended: the more trials are planned together, the less padding they need.

    The worker has ``in_hand`` trials, ``set_aside`` of which have begun and wait for others to train with them. All
    workers together have ``running``; ``left`` of the budget are nobody's.
    """
    if not known_sampler(search.sampler).is_blind:
        return max(0, max(2, min(_MOST_OF_A_LEARNER, search.trials // (8 * search.workers))) - in_hand)
    share = (left + running) // search.workers
    return max(0, min(share - in_hand, left), _FEWEST + set_aside - in_hand)


def trials_to_give(search: SearchSpec, *, in_hand: int, unbegun: int, left: int, running: int, idle: int) -> int:
    """Return how many of its ``unbegun`` trials a worker should give to the others; see `trials_to_take`.

    It gives those beyond its share if the others have, on average, less than a third of what it has. It gives every
    ``idle`` worker, which has no trial and found none, an equal part of what has not begun, even if more workers joined
    than the study file asks for.
    """
    others = left + running - in_hand
    beyond = in_hand - (in_hand + others) // search.workers if 3 * others < in_hand * (search.workers - 1) else 0
    asked_for = -(-unbegun * idle // (idle + 1)) if left == 0 else 0
    return min(unbegun, max(beyond, asked_for))


@final
class Intake:
    """Claims a worker's trials."""

    def __init__(self, setup: WorkerSetup, buffer: BufferedStorage, promoter: Promoter) -> None:
        self._storage = setup.storage
        self._search = setup.spec.search
        self._study_id = id_of_study(setup.study)
        self._buffer = buffer
        self._promoter = promoter
        self._only_trial = setup.only_trial

    def claim(self, n: int) -> list[Ticket] | Literal["wait", "done"]:
        """Claim up to n trials: promoted ones if there are any, else waiting or new ones."""
        if self._only_trial is not None:
            claimed_one = claim_trial(self._storage, self._study_id, self._only_trial)
            self._buffer.refresh()
            return claimed_one
        search = self._search
        claimed: list[Ticket] | Literal["wait", "done"] = self._promoter.claim(n) or claim_tickets(
            self._storage,
            self._study_id,
            n=n,
            budget=search.trials,
            lease_s=search.lease_s,
            retries=search.retries,
            keeping=self._buffer.own_trials,
        )
        if claimed == "wait" and self._promoter.has_rungs:  # no new trial is left to start
            self._buffer.refresh()
            claimed = self._promoter.claim(n, closing=True) or claimed
        if not isinstance(claimed, str):
            resumed = {ticket.trial_id for ticket in claimed if ticket.resumed}
            self._buffer.read_anew({ticket.trial_id for ticket in claimed}, asked=resumed)
        return claimed

    def n_wanted(self, crew: Crew) -> int:
        """Return how many trials to take now."""
        if self._only_trial is not None:
            return 0 if crew.in_hand else 1
        search, left, running = self._look()
        in_hand, set_aside = len(crew.in_hand), len(crew.begun) - len(crew.running)
        n = trials_to_take(search, in_hand=in_hand, set_aside=set_aside, left=left, running=running)
        return max(0, min(n, crew.most_in_hand - in_hand))

    def n_to_give(self, crew: Crew) -> int:
        """Return how many trials that have not begun to give back."""
        if self._only_trial is not None:
            return 0
        search, left, running = self._look()
        in_hand, unbegun = len(crew.in_hand), len(crew.unbegun)
        idle = self._buffer.n_idle
        return trials_to_give(search, in_hand=in_hand, unbegun=unbegun, left=left, running=running, idle=idle)

    def _look(self) -> tuple[SearchSpec, int, int]:
        """Return what `count_open` counts, and before it the search with the workers that there are.

        They may be more than the study file says: each task of a Slurm array starts one.
        """
        trials = self._buffer.get_all_trials(self._study_id, deepcopy=False)
        workers = max(self._search.workers, count_workers(trials, owner=self._storage.owner))
        return dataclasses.replace(self._search, workers=workers), *count_open(trials, budget=self._search.trials)
