"""Stock Optuna on the surrogate, with Optuna 5.0's defaults named one by one."""

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from .surrogate import EPOCHS, SPACE, Surrogate


def run_stock(way: str, surrogate: Surrogate, task: str, *, seed: int, budgets: Sequence[int]) -> list[float]:
    """Search one task, trial after trial, as ``study.optimize`` does.

    Args:
        way: A key of ``STOCK``.
        surrogate: What is searched.
        task: OpenML's id.
        seed: The sampler's; with the task it also names the study, from which Hyperband draws its brackets.
        budgets: Epochs, ascending, at which to look.

    Returns:
        The best reported validation accuracy, in percent, at each budget.
    """
    sampler, pruner = STOCK[way](seed)
    name = f"{task}-{seed}"
    study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
    best, spent = 0.0, 0
    looks: list[float] = []
    while len(looks) < len(budgets):
        trial = study.ask()
        curve = surrogate.curves(task, [SPACE.suggest(trial)])[0]
        pruned = False
        for epoch, value in enumerate(map(float, curve), start=1):
            best, spent = max(best, value), spent + 1
            if spent == budgets[len(looks)]:
                looks.append(best)
                if len(looks) == len(budgets):
                    return looks
            trial.report(value, epoch)
            pruned = trial.should_prune()
            if pruned:
                break
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, float(curve.max()))
    return looks


def _tpe(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=10, n_ei_candidates=24, multivariate=True, group=False, constant_liar=True, seed=seed
        )


def _hyperband() -> HyperbandPruner:
    return HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3, bootstrap_count=0)


def _median() -> MedianPruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=0, interval_steps=1, n_min_trials=1)


#: Way → its sampler and pruner from a seed. Hyperband stands here twice: with the random sampling of its paper, and
#: with Optuna's default sampler, which is what Optuna's documentation advises and the stronger of the two.
STOCK: dict[str, Callable[[int], tuple[BaseSampler, BasePruner]]] = {
    "random": lambda seed: (RandomSampler(seed=seed), NopPruner()),
    "tpe_median": lambda seed: (_tpe(seed), _median()),
    "hyperband": lambda seed: (RandomSampler(seed=seed), _hyperband()),
    "hyperband_tpe": lambda seed: (_tpe(seed), _hyperband()),
}
