"""A worker's promotions: which trials are parked at a rung, go on, or are given up, in a study that others share."""

import dataclasses
from collections.abc import Mapping

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..errors import FatalError
from ..metrics import Direction
from ..optuna_private import id_of_study, id_of_trial
from ..search.promotion import MAX_PARKED, PromotionRule, Rungs, TrialProgress, is_held, is_paused, progress_of
from ..search.stages import ZoomPlan, counts_in_stage
from ..search.zoom_sampler import left_outside
from ..space import SearchSpace
from ..storage.leased_storage import LeasedStorage
from ..storage.parking import claim_parked, prune_parked
from ..storage.tickets import Ticket


class Promoter:
    """Decides by ``Rungs`` on the study as this worker sees it; the storage decides which of two workers came first.

    A decision may be a second old: at worst, a trial goes on or is given up that would not be now. But no trial is
    promoted twice, none is lost, and none is ended while it runs. All methods raise FatalError if the study was
    deleted, and StorageInternalError if the database cannot be written.

    With another pruner than ``promotion`` the rule has no rungs, and all trials go on. With a plan, of a search from
    coarse to fine, a stage judges its own trials and the unfinished ones of earlier stages inside its ranges; those
    outside are given up.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: LeasedStorage,
        rule: PromotionRule,
        *,
        direction: Direction,
        space: SearchSpace | None = None,
        plan: ZoomPlan | None = None,
    ) -> None:
        self._study = study
        self._storage = storage
        self._rule = rule
        self._direction = direction
        self._space = space
        self._plan = plan
        self._stage = 0
        self._outside: set[int] = set()  # numbers of the trials that were parked outside its ranges when it began
        self._rungs = Rungs(rule, direction=direction)
        self._seen: dict[int, FrozenTrial] = {}  # by number, as the rungs know them

    @property
    def has_rungs(self) -> bool:
        """Whether the rule parks trials at all."""
        return bool(self._rule.rungs)

    def to_park(self, epochs: Mapping[int, int]) -> set[int]:
        """Return the numbers of the running trials to park; a trial that stands at no rung trains on.

        ``epochs`` has, by number, how many each has done. A trial that has reported more only repeats what was lost
        with its checkpoint, and is not judged again.
        """
        at_rung = {number for number, done in epochs.items() if done in self._rule.rungs}
        if not at_rung:
            return set()
        self._look()
        news = {number for number in at_rung if len(self._seen[number].intermediate_values) <= epochs[number]}
        return {number for number in news if not self._rungs.goes_on(number)}

    def claim(self, n: int, *, closing: bool = False) -> list[Ticket]:
        """Claim up to n parked trials that deserve to go on, the best of the highest rung first.

        If no new trial will be started (``closing``), the best of every rung goes on, whatever its share.
        """
        if not self._look():
            return []
        chosen: list[FrozenTrial] = []
        while len(chosen) < n and (number := self._rungs.next_promotion(closing=closing)) is not None:
            trial = self._seen.pop(number)  # it is looked at again, whichever worker gets it
            self._rungs.show(dataclasses.replace(self._progress(trial), state="running"))
            chosen.append(trial)
        return claim_parked(self._storage, id_of_study(self._study), [id_of_trial(trial) for trial in chosen])

    def give_up(self, *, closing: bool = False) -> list[int]:
        """End the parked trials beyond ``MAX_PARKED``, and those that can never go on, as PRUNED; return their ids.

        Those beyond it end a quarter of it at a time: that takes two transactions, and nothing waits for it.
        If no new trial will be started and none was left to promote (``closing``), end all, unless a trial still runs
        or waits to be run, since its result may promote another.
        """
        if not self._look():
            return []
        at_work = (TrialState.RUNNING, TrialState.WAITING)
        closing = closing and all(t.state not in at_work or is_paused(t) or is_held(t) for t in self._seen.values())
        outside = [number for number in sorted(self._outside) if is_paused(self._seen[number])]
        surplus = self._rungs.surplus(max_parked=0 if closing else MAX_PARKED)
        if not closing and len(surplus) <= MAX_PARKED // 4:
            surplus = []
        trial_ids = [id_of_trial(self._seen[number]) for number in (*outside, *surplus)]
        return prune_parked(self._storage, id_of_study(self._study), trial_ids)

    def _look(self) -> bool:
        """Show the rungs what has changed; return False if the rule has none. Trials are replaced, never changed."""
        if not self.has_rungs:
            return False
        try:
            trials = self._study.get_trials(deepcopy=False)
        except KeyError as error:  # Optuna's word for a study that is gone
            raise FatalError("The study was deleted while it ran, so nothing is left to do.") from error
        plan = (self._plan or ZoomPlan()).among(trials)
        stage = plan.stage_of(max((trial.number for trial in trials), default=0))
        if stage != self._stage:  # its trials are judged among themselves
            self._stage, self._seen = stage, {}
            self._rungs = Rungs(self._rule, direction=self._direction)
            if self._space is not None:
                self._outside = left_outside(self._space, trials, plan, self._direction, stage=stage)
        for trial in trials:
            if self._seen.get(trial.number) is trial:
                continue
            self._seen[trial.number] = trial
            if counts_in_stage(trial, plan, stage=stage) and trial.number not in self._outside:
                self._rungs.show(self._progress(trial))
            else:
                self._rungs.forget(trial.number)
        return True

    def _progress(self, trial: FrozenTrial) -> TrialProgress:
        return progress_of(trial, max_epochs=self._rule.max_epochs)
