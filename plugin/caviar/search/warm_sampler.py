"""What a trial of a warm-started study is given in place of what its sampler would draw.

The trial with index n takes the n-th configuration. Of the draws after these that the study's sampler makes at random,
since it has too few results to learn from, a share comes from the narrower space, once the configurations have proved
better than the study's own draws: an unrelated source is not believed. Which trials these may be follows from their
index, so that a resumed study repeats nothing. The sampler draws everything else as in a cold start.

Why proof comes first was measured with benchmarks/warm_start.py (2026-11-25, LCBench surrogate, 34 tasks, one seed):
where the narrower space was believed until the configurations had proved no better, the regret after 10, 30 and 100
full trainings from an unrelated source was 1.16, 1.21 and 1.54 times that of a cold start, with the configurations
alone 1.11, 1.07 and 1.14 times; from a related one it gained nothing that could be told from chance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ..metrics import Direction
from ..sampler_table import known_sampler
from ..spec import SearchSpec
from .sequences import value_at
from .warm_start import WarmStart, configurations_by_trial
from .zoom import observations_of

#: Draws of the study's own without which the configurations cannot be judged, and the share of pairs of one of each
#: that the configurations must win.
_N_DRAWN = 5
_CLEARLY = 0.75


def warm_params(warm: WarmStart, study: optuna.Study, search: SearchSpec, *, index: int, seed: int) -> dict[str, Any]:
    """Return what a trial is given, by the names that Optuna stores; empty if its sampler draws everything.

    Args:
        warm: What the study takes over.
        study: Its trials so far say whether the source helps.
        search: Its ``sampler`` and ``sampler_options``.
        index: The trial's, from ``sequence_index``.
        seed: Of the trial's draw from the narrower space.
    """
    if index < len(warm.configurations):
        return dict(warm.configurations[index].params)
    if warm.prior is None or not has_its_turn(index - len(warm.configurations), warm.prior_share):
        return {}
    trials = study.get_trials(deepcopy=False)
    n_results = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    if n_results >= n_results_to_learn(search) or not source_helps(trials, warm, Direction.of(study)):
        return {}
    rng = np.random.default_rng(seed)
    return {name: value_at(prior, rng.random()) for name, prior in warm.prior.distributions().items()}


def source_helps(trials: Sequence[FrozenTrial], warm: WarmStart, direction: Direction) -> bool:
    """Tell whether the configurations taken over are clearly better than what the study draws by itself.

    Source:
        Mann and Whitney, Annals of Mathematical Statistics 1947: the share of pairs, one of each, that the first wins.

    Args:
        trials: All of the study's; running ones are not judged yet.
        warm: What the study takes over; without configurations there is nothing to judge.
        direction: Of the metric.

    Returns:
        Whether they are; False while too few trials can tell.
    """
    taken_by = configurations_by_trial(warm, trials)
    ended = [trial for trial in trials if trial.state not in (TrialState.RUNNING, TrialState.FAIL) and trial.params]
    costs = {trial.number: observations_of([trial], direction)[0].cost for trial in ended}
    taken = [cost for number, cost in costs.items() if number in taken_by]
    drawn = [cost for number, cost in costs.items() if number not in taken_by]
    if not taken or len(drawn) < _N_DRAWN:
        return False
    wins = sum((one < other) + 0.5 * (one == other) for one in taken for other in drawn)
    return wins >= _CLEARLY * len(taken) * len(drawn)


def n_results_to_learn(search: SearchSpec) -> float:
    """Return how many results a sampler needs before it stops drawing at random: infinitely many for random search."""
    n_startup = known_sampler(search.sampler).n_startup
    return float(search.sampler_options.get("n_startup_trials", n_startup)) if n_startup else 0.0


def has_its_turn(index: int, share: float) -> bool:
    """Tell whether one of a series is among the share that is spread evenly over it, from the first one on."""
    return math.ceil(share * (index + 1) - 1e-9) > math.ceil(share * index - 1e-9)
