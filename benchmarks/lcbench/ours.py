"""The default search of optuna-caviar on the surrogate: one simulated worker, made of the product's own decisions.

One study in Optuna's in-memory storage holds the trials as the product keeps them: drawn by the sampler ``zoom``, a
paused one WAITING with the attribute that promotion looks for.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from caviar.attributes import PAUSED
from caviar.metrics import Direction
from caviar.search.promotion import PromotionRule, Rungs, progress_of
from caviar.search.samplers import make_sampler_factory
from caviar.search.stages import TRIALS_A_TRAINING, counts_in_stage, default_promotion, zoom_plan
from caviar.search.warm_start import SourceStudy, WarmRule, learn_from
from caviar.search.zoom_sampler import left_outside
from caviar.space import SearchSpace
from caviar.spec import SearchSpec

from .surrogate import EPOCHS, SPACE, Surrogate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The course's names of the surrogate's hyperparameters, by which a search by tiers knows them.
_COURSE_NAMES = {"num_layers": "depth", "max_units": "units", "max_dropout": "dropout", "weight_decay": "l2"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study file would say.

    Attributes:
        options: The sampler's; none is the default search.
        course_names: Whether the hyperparameters are called as in the course; their order then is another one too, and
            so are the numbers that are drawn.
        promotion: When trials are judged, and how many go on.
    """

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    course_names: bool = False
    promotion: PromotionRule = dataclasses.field(default_factory=lambda: default_promotion(EPOCHS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        best: The best reported validation accuracy, in percent.
        study: The search itself.
    """

    best: float
    study: SourceStudy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmth:
    """What a search starts from.

    Attributes:
        study: Another search.
        rule: How much is taken over from it.
    """

    study: SourceStudy
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
        warmth: What it starts from.
    """
    worker = _Worker(settings, surrogate, task, seed=seed, budget=budget, warmth=warmth)
    worker.run()
    trials = worker.study.get_trials(deepcopy=False)
    return Found(best=worker.best, study=SourceStudy(name=task, space=SPACE, trials=trials))


class _Worker:
    """Runs trials of one study, one after the other, as a worker with one lane does."""

    def __init__(
        self, settings: Settings, surrogate: Surrogate, task: str, *, seed: int, budget: int, warmth: Warmth | None
    ) -> None:
        self.best = 0.0
        self.study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
        search = SearchSpec(
            sampler="zoom", sampler_options=settings.options, trials=max(TRIALS_A_TRAINING * budget // EPOCHS, 1)
        )
        self._names = _COURSE_NAMES if settings.course_names else {}
        self._space = _renamed(SPACE, self._names)
        self._surrogate, self._task = surrogate, task
        warm = None
        if warmth is not None:
            warm = learn_from(
                "source",
                [warmth.study],
                self._space,
                direction=Direction.MAXIMIZE,
                trials=search.trials,
                rule=warmth.rule,
            )
        self._make_sampler = make_sampler_factory(search, self._space, seed=seed, warm=warm)
        self._plan, self._stage = zoom_plan(search), 0
        self._rule = settings.promotion
        self._rungs = Rungs(self._rule)
        self._trials: dict[int, tuple[optuna.Trial, npt.NDArray[np.float64]]] = {}
        self._left = budget

    def run(self) -> None:
        """Train until the epochs are spent, the last ones on the best of what is there."""
        while self._left > 0:
            number = self._rungs.next_promotion(closing=self._left <= EPOCHS)
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
        study.sampler = self._make_sampler(number, study)
        trial = optuna.Trial(study, trial_id)
        drawn = self._space.suggest(trial)
        back = {course: own for own, course in self._names.items()}
        params = {back.get(name, name): value for name, value in drawn.items()}
        self._trials[number] = (trial, self._surrogate.curves(self._task, [params])[0])
        self._enter(self._plan.stage_of(number))
        return number

    def _enter(self, stage: int) -> None:
        """Judge anew where a stage begins, as ``Promoter`` does."""
        if stage != self._stage:
            self._stage, self._rungs = stage, Rungs(self._rule)
            trials = self.study.get_trials(deepcopy=False)
            self._prune(sorted(left_outside(self._space, trials, self._plan, Direction.MAXIMIZE, stage=stage)))
            for trial in self.study.get_trials(deepcopy=False):
                self._show(trial)

    def _wake(self, number: int) -> optuna.Trial:
        """Return a paused trial, running again."""
        trial, _ = self._trials[number]
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return trial

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
                self._show(storage.get_trial(trial._trial_id))
            if self._left == 0 or (at_rung and not self._rungs.goes_on(number)):
                storage.set_trial_system_attr(trial._trial_id, PAUSED, True)
                storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                break
        self._show(storage.get_trial(trial._trial_id))

    def _prune(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            trial = self._wake(number)
            self.study.tell(trial, state=TrialState.PRUNED)
            self._show(self.study._storage.get_trial(trial._trial_id))

    def _show(self, trial: FrozenTrial) -> None:
        if counts_in_stage(trial, self._plan, stage=self._stage):
            self._rungs.show(progress_of(trial, max_epochs=EPOCHS))
        else:
            self._rungs.forget(trial.number)


def _renamed(space: SearchSpace, names: Mapping[str, str]) -> SearchSpace:
    return SearchSpace(
        parameters=tuple(
            dataclasses.replace(parameter, name=names.get(parameter.name, parameter.name))
            for parameter in space.parameters
        )
    )
