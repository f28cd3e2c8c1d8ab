"""Searches that spend a budget of epochs, not of trials: a study, or a study and its zooms.

What was spent stands in the studies alone, so that the same call goes on after anything and repeats nothing. Where
trials are pruned nobody knows beforehand how many fit: a study runs in rounds, each for the trials that what is left of
the budget pays at the price of those before. The last round may spend a little more than there is; whoever reads the
trials counts them up to the budget.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..search.stages import default_stages, default_zoom
from ..search.zoom import PARENT_TRIAL
from ..spec import StageSpec, StudySpec
from ..storage.database import database_exists, new_owner, open_storage
from ..storage.home import Home
from .family import open_children, open_relative
from .run import Progress, RunResult, run_study
from .zoom import ZoomOutcome, zoom_facts, zoom_stage

OnProgress: TypeAlias = Callable[[Progress], None]

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Where a search's budget went.

    Attributes:
        studies: The studies that hold the search, the first one first.
        interrupted: Whether it was asked to stop before the budget was spent.
    """

    studies: tuple[str, ...]
    interrupted: bool


def own_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return a study's trials in the order of their numbers, without those that a zoom copied from its parent."""
    trials = study.get_trials(deepcopy=False)
    return sorted((t for t in trials if PARENT_TRIAL not in t.user_attrs), key=lambda trial: trial.number)


def n_epochs(trials: Iterable[FrozenTrial]) -> int:
    """Return how many epochs trials have reported, all together."""
    return sum(len(trial.intermediate_values) for trial in trials)


def trials_to_run(
    trials: Sequence[FrozenTrial], *, budget_epochs: int, epochs: int, prunes: bool, most: int | None = None
) -> int:
    """Return how many trials a study is to end in all so that it spends what is left of a budget.

    Args:
        trials: The study's own, in any state.
        budget_epochs: What the study may spend, these trials included.
        epochs: Of one whole training.
        prunes: Whether trials may end earlier.
        most: Trials that the study can have, or None for any number.

    Returns:
        As many as have ended, pruned ones included, where less than one training is left. Those that have not ended
        are counted on at their full price, new ones at the price of those that have.
    """
    done = [trial for trial in trials if trial.state in _DONE]
    busy = [trial for trial in trials if not trial.state.is_finished()]
    left = budget_epochs - epochs * len(busy) - n_epochs(trial for trial in trials if trial.state.is_finished())
    price = max(n_epochs(done) / len(done), 1.0) if prunes and done else float(epochs)
    total = len(done) + len(busy) + (int(left / price) if left >= epochs else 0)
    return total if most is None else min(total, max(most, len(done)))


def spend_on_study(
    spec: StudySpec, home: Home, *, budget_epochs: int, most: int | None = None, on_progress: OnProgress
) -> Spending:
    """Run a study until less than one training of a budget of epochs is left, or a signal ends it.

    Args:
        spec: The study file; its own budget and stages are left aside.
        home: Where it lives.
        budget_epochs: At least one training.
        most: Trials that the study can have, a grid's points, or None for any number.
        on_progress: As ``run_study`` has it.

    Raises:
        CaviarError: If the study file, the data, the home or the storage is not fit to run.
    """
    search = _Search(spec, home, on_progress=on_progress)
    search.spend(budget_epochs, most=most)
    return search.spending()


def spend_on_stages(
    spec: StudySpec, home: Home, *, budget_epochs: int, on_progress: OnProgress, say: Callable[[str], None]
) -> Spending:
    """Run a search from coarse to fine until a budget of epochs is spent: a study, and zooms each into the one before.

    The stages are the study file's, in proportion, or those of ``default_stages``. What a stage leaves, the next one
    has; where no further zoom is worth it, the last study has the rest. A stage that was zoomed in to already gets no
    more trials, be the budget larger than it was.

    Args:
        spec: The study file; its own budget is left aside.
        home: Where it lives.
        budget_epochs: At least one training; of all stages together.
        on_progress: As ``run_study`` has it.
        say: Called with what is worth telling before a zoom, line by line.

    Raises:
        CaviarError: If the study file, the data, the home or the storage is not fit to run.
    """
    stages = scaled_stages(spec, budget_epochs // spec.objective.epochs)
    targets = [total * spec.objective.epochs for total in itertools.accumulate(stage.trials for stage in stages)]
    targets[-1] = budget_epochs
    search = _Search(spec, home, on_progress=on_progress, say=say)
    for target, following, next_target in zip(targets, stages[1:], targets[1:], strict=False):
        if search.reopen_zoom(following.keep):
            continue
        search.spend(target)
        if search.interrupted or not search.zoom(following.keep, budget_epochs=next_target) or search.interrupted:
            break
    if not search.interrupted:
        search.spend(budget_epochs)
    return search.spending()


def scaled_stages(spec: StudySpec, trials: int) -> tuple[StageSpec, ...]:
    """Return the stages of a search of so many trials, the first one included: the study file's in proportion.

    Args:
        spec: The study file; one without stages has those of ``default_stages``.
        trials: At least 1.

    Returns:
        At least one; each has at least one trial, and they add up to ``trials``.
    """
    own = (StageSpec(trials=spec.search.trials), *spec.search.stages)
    if len(own) == 1:
        return tuple(StageSpec(trials=n, keep=default_zoom().keep) for n in default_stages(trials))
    own = own[:trials]
    total, ends = sum(stage.trials for stage in own), [0]
    for number, paid in enumerate(itertools.accumulate(stage.trials for stage in own), 1):
        rest = len(own) - number
        ends.append(min(max(round(trials * paid / total), ends[-1] + 1), trials - rest))
    shares = itertools.pairwise(ends)
    return tuple(StageSpec(trials=high - low, keep=stage.keep) for stage, (low, high) in zip(own, shares, strict=True))


def read_trials(home: Home, names: Sequence[str]) -> list[FrozenTrial]:
    """Return the trials of a search, its studies' one after another, without copies; none of what is not there."""
    if not database_exists(home.storage):
        return []
    storage = open_storage(home.storage, owner=new_owner())
    found = []
    for name in names:
        study = open_relative(storage, name)
        found += [] if study is None else own_trials(study)
    return found


class _Search:
    """One search as it spends its budget: the studies that it has, and a way to run more trials in the last one.

    Args:
        spec: The study file.
        home: Where it lives.
        on_progress: As ``run_study`` has it.
        say: As ``zoom_stage`` has it.
    """

    def __init__(
        self,
        spec: StudySpec,
        home: Home,
        *,
        on_progress: OnProgress,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, stages=()))
        self._home = home
        self._on_progress = on_progress
        self._say = say
        self._names = [spec.name]
        self._keeps: list[float] = []
        self.interrupted = False

    def spending(self) -> Spending:
        """Return what became of the search."""
        return Spending(studies=tuple(self._names), interrupted=self.interrupted)

    def spend(self, budget_epochs: int, *, most: int | None = None) -> None:
        """Run the last study until this much is spent by all of them together."""
        while True:
            trials = read_trials(self._home, self._names[-1:])
            total = self._trials_to_run(trials, budget_epochs, most=most)
            if total <= sum(trial.state in _DONE for trial in trials):
                return
            result = self._run(total)
            self.interrupted = result is not None and result.interrupted
            if result is None or self.interrupted or result.finished_now == 0:
                return

    def reopen_zoom(self, keep: float) -> bool:
        """Go on in the last study's zoom, if there is one with this ``keep``."""
        if not database_exists(self._home.storage):
            return False
        storage = open_storage(self._home.storage, owner=new_owner())
        study = open_relative(storage, self._names[-1])
        for child in [] if study is None else open_children(storage, study):
            known = zoom_facts(child)
            if known is not None and known.keep == keep:
                self._enter(child.study_name, keep)
                return True
        return False

    def zoom(self, keep: float, *, budget_epochs: int) -> bool:
        """Zoom in to the last study and run the first round there; return False where that is not worth it."""
        total = self._trials_to_run([], budget_epochs, before=len(self._names))
        outcome = self._zoom_stage(self._names[-1], keep, total) if total else None
        if outcome is None or outcome.child is None:
            return False
        self._enter(outcome.child, keep)
        self.interrupted = outcome.run is not None and outcome.run.interrupted
        return True

    def _enter(self, name: str, keep: float) -> None:
        self._names.append(name)
        self._keeps.append(keep)

    def _run(self, total: int) -> RunResult | None:
        if not self._keeps:
            search = dataclasses.replace(self._spec.search, trials=total)
            return run_study(dataclasses.replace(self._spec, search=search), self._home, on_progress=self._on_progress)
        return self._zoom_stage(self._names[-2], self._keeps[-1], total).run

    def _zoom_stage(self, parent: str, keep: float, total: int) -> ZoomOutcome:
        return zoom_stage(
            self._home,
            parent,
            keep=keep,
            trials=total,
            on_progress=self._on_progress,
            say=self._say,
            deadline_s=None,
        )

    def _trials_to_run(
        self, trials: Sequence[FrozenTrial], budget_epochs: int, *, most: int | None = None, before: int | None = None
    ) -> int:
        earlier = self._names[: len(self._names) - 1 if before is None else before]
        return trials_to_run(
            trials,
            budget_epochs=budget_epochs - n_epochs(read_trials(self._home, earlier)),
            epochs=self._spec.objective.epochs,
            prunes=self._spec.search.pruner != "none",
            most=most,
        )
