"""The default search of optuna-caviar on the surrogate: one simulated worker, made of the product's own decisions.

Trials live in Optuna's in-memory storage as the product keeps them: a paused one is WAITING with the attribute that
promotion looks for, and every zoom is a child study that begins with copies of the parent's trials that fit.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from caviar.search.narrowing import ZoomRule
from caviar.search.promotion import PromotionRule, Rungs, progress_of, rungs_of
from caviar.search.samplers import SamplerFactory, make_sampler_factory
from caviar.search.seeds import trial_seed
from caviar.search.stages import default_promotion, default_stages, default_zoom
from caviar.search.warm_sampler import warm_sampler_factory
from caviar.search.warm_start import SourceStudy, WarmRule, learn_from
from caviar.search.zoom import copies_that_fit, narrow_space, observations_of
from caviar.space import SearchSpace
from caviar.spec import SearchSpec
from caviar.storage.tickets import PAUSED

from .surrogate import EPOCHS, SPACE, Surrogate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study file would say.

    Attributes:
        sampler: What draws the trials of every stage.
        n_stages: Into how many equal parts the budget goes; None for as many as the default gives the number of trials
            that it can be expected to last for.
        zoom: How a space is narrowed.
        promotion: When trials are judged, and how many go on.
    """

    sampler: str = "tpe"
    n_stages: int | None = None
    zoom: ZoomRule = dataclasses.field(default_factory=default_zoom)
    promotion: PromotionRule = dataclasses.field(default_factory=lambda: default_promotion(EPOCHS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        best: The best reported validation accuracy, in percent.
        studies: Its stages, the first one first.
    """

    best: float
    studies: tuple[SourceStudy, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmth:
    """What a search starts from.

    Attributes:
        studies: The stages of another search.
        rule: How much is taken over from them.
    """

    studies: tuple[SourceStudy, ...]
    rule: WarmRule = dataclasses.field(default_factory=WarmRule)


def run_ours(settings: Settings, surrogate: Surrogate, task: str, *, seed: int, budget: int) -> float:
    """Search one task from a cold start, and return the best reported validation accuracy, in percent."""
    return search_ours(settings, surrogate, task, seed=seed, budget=budget).best


def search_ours(
    settings: Settings, surrogate: Surrogate, task: str, *, seed: int, budget: int, warmth: Warmth | None = None
) -> Found:
    """Search one task.

    Args:
        settings: The study's.
        surrogate: What is searched.
        task: OpenML's id.
        seed: The study's seed.
        budget: Epochs in all.
        warmth: What it starts from; the stages after the first start from the one before, as ever.
    """
    space, best, spent = SPACE, 0.0, 0
    copies: list[optuna.trial.FrozenTrial] = []
    studies: list[SourceStudy] = []
    search = SearchSpec(sampler=settings.sampler)
    n_trials = round(budget / settings.promotion.mean_epochs)
    warm = None
    if warmth is not None:
        warm = learn_from("source", warmth.studies, SPACE, minimize=False, trials=n_trials, rule=warmth.rule)
    n_stages = settings.n_stages or len(default_stages(n_trials))
    for stage in range(n_stages):
        own = trial_seed(seed, stage, "stage")
        make_sampler = make_sampler_factory(search, space, seed=own)
        if stage == 0:
            make_sampler = warm_sampler_factory(make_sampler, warm, search, space, seed=own)
        worker = _Worker(
            surrogate, task, space=space, copies=copies, make_sampler=make_sampler, rule=settings.promotion
        )
        end = budget * (stage + 1) // n_stages
        worker.run(end - spent, last=stage == n_stages - 1)
        spent, best = end, max(best, worker.best)
        trials = worker.study.get_trials(deepcopy=False)
        studies.append(SourceStudy(name=f"stage {stage}", space=space, trials=trials))
        space = narrow_space(space, observations_of(trials, minimize=False), root=SPACE, rule=settings.zoom).space
        copies = copies_that_fit(space, trials)
    return Found(best=best, studies=tuple(studies))


class _Worker:
    """Runs trials of one study, one after the other, as a worker with one lane does."""

    def __init__(
        self,
        surrogate: Surrogate,
        task: str,
        *,
        space: SearchSpace,
        copies: list[optuna.trial.FrozenTrial],
        make_sampler: SamplerFactory,
        rule: PromotionRule,
    ) -> None:
        self.best = 0.0
        self.study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
        self.study.add_trials(copies)
        self._space = space
        self._surrogate, self._task = surrogate, task
        self._make_sampler, self._rule = make_sampler, rule
        self._rungs: Rungs = rungs_of(self.study.get_trials(deepcopy=False), rule)
        self._trials: dict[int, tuple[optuna.Trial, npt.NDArray[np.float64]]] = {}
        self._left = 0

    def run(self, epochs: int, *, last: bool) -> None:
        """Train for so many epochs; in the last study, spend the end on the best of what is there."""
        self._left = epochs
        while self._left > 0:
            number = self._rungs.next_promotion(closing=last and self._left <= EPOCHS)
            if number is None:
                number = self._start()
            else:
                self._wake(number)
            self._train(number)
            self._prune(self._rungs.surplus())

    def _start(self) -> int:
        storage, study = self.study._storage, self.study
        trial_id = storage.create_new_trial(study._study_id)
        number = storage.get_trial_number_from_id(trial_id)
        study.sampler = self._make_sampler(number)
        trial = optuna.Trial(study, trial_id)
        self._keep(number, trial, self._space.suggest(trial))
        return number

    def _wake(self, number: int) -> optuna.Trial:
        """Return a paused trial, running again."""
        if number not in self._trials:  # a copy from the wider study
            frozen = self.study.get_trials(deepcopy=False)[number]
            trial = optuna.Trial(self.study, frozen._trial_id)
            self._keep(number, trial, self._space.hyperparameters(frozen.params))
        trial, _ = self._trials[number]
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return trial

    def _keep(self, number: int, trial: optuna.Trial, params: Mapping[str, Any]) -> None:
        self._trials[number] = (trial, self._surrogate.curves(self._task, [params])[0])

    def _train(self, number: int) -> None:
        """Train on until the rule pauses the trial, it is complete, or the epochs are spent."""
        trial, curve = self._trials[number]
        storage = self.study._storage
        for epoch in itertools.count(len(storage.get_trial(trial._trial_id).intermediate_values)):
            trial.report(float(curve[epoch]), epoch)
            self._left, self.best = self._left - 1, max(self.best, float(curve[epoch]))
            if epoch + 1 == EPOCHS:
                self.study.tell(trial, float(curve.max()))
                break
            at_rung = epoch + 1 in self._rule.rungs
            if at_rung:
                self._show(trial)
            if self._left == 0 or (at_rung and not self._rungs.goes_on(number)):
                storage.set_trial_system_attr(trial._trial_id, PAUSED, True)
                storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                break
        self._show(trial)

    def _prune(self, numbers: list[int]) -> None:
        for number in numbers:
            trial = self._wake(number)
            self.study.tell(trial, state=TrialState.PRUNED)
            self._show(trial)

    def _show(self, trial: optuna.Trial) -> None:
        self._rungs.show(progress_of(self.study._storage.get_trial(trial._trial_id), max_epochs=EPOCHS))
