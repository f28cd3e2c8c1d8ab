"""Searches that spend a budget of epochs, not of trials.

The studies alone tell what was spent, so the same call resumes and repeats nothing. If trials are pruned, nobody knows
beforehand how many fit. A study then runs in rounds: each runs the trials that the rest of the budget pays for, at the
price of those before. With the pruner ``promotion`` the first round expects the usual price, since every round ends by
giving up the parked trials, and the sampler's stages share the first round's budget. The last round may overspend a
little, so whoever reads the trials counts them only up to the budget.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState

from ..search.stages import TRIALS_A_TRAINING
from ..spec import StudySpec
from ..storage.home import Home
from ..worker.mirroring import trials_with_runs
from .family import open_if_any
from .run import OnProgress, run_study

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Where a search's budget went: its study, whose ``uid`` is None if nothing was run."""

    study: str
    uid: str | None
    interrupted: bool


def n_epochs(trials: Iterable[FrozenTrial]) -> int:
    """Return how many epochs trials have reported in all."""
    return sum(len(trial.intermediate_values) for trial in trials)


def trials_to_run(
    trials: Sequence[FrozenTrial], *, budget_epochs: int, epochs: int, pruner: str, most: int | None = None
) -> int:
    """Return how many trials a study should finish in all to spend the rest of a budget.

    If less than one training is left, that is as many as have finished, pruned ones included. Otherwise unfinished
    trials count at their full price, and new ones at the price of the finished.

    ``trials`` are the study's own, in any state; ``budget_epochs`` is what it may spend, these included, ``epochs`` a
    whole training, and ``most`` how many trials it can have. With any pruner but ``none``, trials may end early.
    """
    done = [trial for trial in trials if trial.state in _DONE]
    busy = [trial for trial in trials if not trial.state.is_finished()]
    left = budget_epochs - epochs * len(busy) - n_epochs(trial for trial in trials if trial.state.is_finished())
    price = float(epochs)
    if pruner != "none" and done:
        price = n_epochs(done) / len(done)
    elif pruner == "promotion":
        price = epochs / TRIALS_A_TRAINING
    price = max(price, 1.0)
    total = len(done) + len(busy) + (int(left / price) if left >= epochs else 0)
    return total if most is None else min(total, max(most, len(done)))


def spend_on_study(
    spec: StudySpec, home: Home, *, budget_epochs: int, most: int | None = None, on_progress: OnProgress
) -> Spending:
    """Run a study until less than one training of a budget of epochs is left, or a signal ends it.

    The study file's own budget is ignored. ``most`` is how many trials the study can have, such as a grid's points.
    """
    interrupted, uid = False, None
    while not interrupted:
        trials = read_trials(home, spec.name, uid=uid)
        epochs, pruner = spec.objective.epochs, spec.search.pruner
        total = trials_to_run(trials, budget_epochs=budget_epochs, epochs=epochs, pruner=pruner, most=most)
        if total <= sum(trial.state in _DONE for trial in trials):
            break
        search = dataclasses.replace(spec.search, trials=total)
        result = run_study(dataclasses.replace(spec, search=search), home, on_progress=on_progress, uid=uid)
        interrupted, uid = result.interrupted, result.progress.uid
        if result.finished_now == 0:
            break
    return Spending(study=spec.name, uid=uid, interrupted=interrupted)


def read_trials(home: Home, name: str, *, uid: str | None) -> list[FrozenTrial]:
    """Return a study's trials, without those that a zoom copied; none if there is no study of this name.

    Raises a FatalError if the name now belongs to another study than ``uid``.
    """
    found = open_if_any(home, name, uid=uid)
    return [] if found is None else trials_with_runs(found[1].get_trials(deepcopy=False))
