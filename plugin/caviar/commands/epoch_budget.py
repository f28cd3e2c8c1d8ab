"""Searches that spend a budget of epochs, not of trials.

What was spent stands in the studies alone, so that the same call goes on after anything and repeats nothing. Where
trials are pruned nobody knows beforehand how many fit: a study runs in rounds, each for the trials that what is left of
the budget pays at the price of those before. With the pruner ``promotion`` the first round expects the usual price: its
stages share the budget, and every round's end gives up what is parked. The last round may spend a little more than
there is; whoever reads the trials counts them up to the budget.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import PARENT_TRIAL
from ..errors import UnknownStudyError
from ..search.stages import TRIALS_A_TRAINING
from ..spec import StudySpec
from ..storage.database import database_exists, new_owner, open_storage
from ..storage.home import Home
from ..storage.studies import open_study
from .run import Progress, run_study

OnProgress: TypeAlias = Callable[[Progress], None]

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Where a search's budget went.

    Attributes:
        study: The study that holds the search.
        uid: What tells it from others of its name; None where nothing was run.
        interrupted: Whether it was asked to stop before the budget was spent.
    """

    study: str
    uid: str | None
    interrupted: bool


def own_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return a study's trials in the order of their numbers, without those that a zoom copied from its parent."""
    trials = study.get_trials(deepcopy=False)
    return sorted((t for t in trials if PARENT_TRIAL not in t.user_attrs), key=lambda trial: trial.number)


def n_epochs(trials: Iterable[FrozenTrial]) -> int:
    """Return how many epochs trials have reported, all together."""
    return sum(len(trial.intermediate_values) for trial in trials)


def trials_to_run(
    trials: Sequence[FrozenTrial],
    *,
    budget_epochs: int,
    epochs: int,
    pruner: str,
    most: int | None = None,
) -> int:
    """Return how many trials a study is to end in all so that it spends what is left of a budget.

    Args:
        trials: The study's own, in any state.
        budget_epochs: What the study may spend, these trials included.
        epochs: Of one whole training.
        pruner: Its name; trials may end earlier with any but ``none``.
        most: Trials that the study can have, or None for any number.

    Returns:
        As many as have ended, pruned ones included, where less than one training is left. Those that have not ended
        are counted on at their full price, new ones at the price of those that have.
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

    Args:
        spec: The study file; its own budget is left aside.
        home: Where it lives.
        budget_epochs: At least one training.
        most: Trials that the study can have, a grid's points, or None for any number.
        on_progress: As ``run_study`` has it.

    Raises:
        CaviarError: If the study file, the data, the home or the storage is not fit to run.
    """
    interrupted, uid = False, None
    while not interrupted:
        trials = read_trials(home, spec.name, uid=uid)
        total = trials_to_run(
            trials,
            budget_epochs=budget_epochs,
            epochs=spec.objective.epochs,
            pruner=spec.search.pruner,
            most=most,
        )
        if total <= sum(trial.state in _DONE for trial in trials):
            break
        search = dataclasses.replace(spec.search, trials=total)
        result = run_study(dataclasses.replace(spec, search=search), home, on_progress=on_progress, uid=uid)
        interrupted, uid = result.interrupted, result.progress.uid
        if result.finished_now == 0:
            break
    return Spending(study=spec.name, uid=uid, interrupted=interrupted)


def read_trials(home: Home, name: str, *, uid: str | None) -> list[FrozenTrial]:
    """Return the trials of a study without those that a zoom copied; none where there is none of the name.

    Raises:
        FatalError: If another study has the name than ``uid`` says.
    """
    if not database_exists(home.storage):
        return []
    storage = open_storage(home.storage, owner=new_owner())
    try:
        return own_trials(open_study(storage, name, uid=uid))
    except UnknownStudyError:
        return []
