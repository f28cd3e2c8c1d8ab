"""Drawing the trials of a study that takes over what another one learned.

Trial n takes the n-th configuration. Of the draws after these that the study's sampler makes at random, since it has
too few results to learn from, a share comes from the narrower space, once the configurations have proved better than
the study's own draws: an unrelated source is not believed. Which trials these may be follows from their numbers, so
that a resumed study repeats nothing. All else the sampler draws as in a cold start.

Why proof comes first was measured with benchmarks/warm_start.py (2026-11-25, LCBench surrogate, 34 tasks, one seed):
where the narrower space was believed until the configurations had proved no better, the regret after 10, 30 and 100
full trainings from an unrelated source was 1.16, 1.21 and 1.54 times that of a cold start, with the configurations
alone 1.11, 1.07 and 1.14 times; from a related one it gained nothing that could be told from chance.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..space import SearchSpace
from ..spec import SearchSpec, is_import_path
from .samplers import SamplerFactory
from .seeds import trial_seed
from .sequences import origin_of, place_of, value_at
from .warm_start import WarmStart
from .zoom import observations_of

#: Samplers that walk a sequence: it begins after the configurations, and is walked as it is.
_SEQUENCES = frozenset({"grid", "qmc"})
#: Results without which a sampler draws at random, where its options do not say.
_N_STARTUP = 10
_N_STARTUP_CMAES = 1
#: Draws of the study's own without which the configurations cannot be judged, and the share of pairs of one of each
#: that the configurations must win.
_N_DRAWN = 5
_CLEARLY = 0.75


def warm_sampler_factory(
    make_sampler: SamplerFactory, warm: WarmStart | None, search: SearchSpec, space: SearchSpace, *, seed: int
) -> SamplerFactory:
    """Return what makes each trial's sampler in a study that takes something over.

    Args:
        make_sampler: Makes the sampler of a cold start.
        warm: What is taken over; None gives ``make_sampler`` back.
        search: Its ``sampler`` and ``sampler_options``.
        space: What is drawn.
        seed: Of what the study draws.
    """
    if warm is None:
        return make_sampler
    distributions = space.distributions()
    until = n_results_to_learn(search)
    n_first = len(warm.configurations)

    def make(number: int) -> optuna.samplers.BaseSampler:
        return GivenSampler(distributions, functools.partial(choose, number))

    def choose(number: int, study: optuna.Study) -> tuple[optuna.samplers.BaseSampler, Mapping[str, Any]]:
        trials = study.get_trials(deepcopy=False)
        place = place_of(number, trials)
        if place < n_first:
            return make_sampler(number), warm.configurations[place].params
        begin = _begin_after(trials, n_first)
        if search.sampler in _SEQUENCES:
            return make_sampler(number - begin), {}
        if warm.prior is None or not has_its_turn(place - n_first, warm.prior_share) or not trusts_prior(study, begin):
            return make_sampler(number), {}
        rng = np.random.default_rng(trial_seed(seed, number, "warm start"))
        drawn = {name: value_at(prior, rng.random()) for name, prior in warm.prior.distributions().items()}
        return make_sampler(number), drawn

    def trusts_prior(study: optuna.Study, begin: int) -> bool:
        trials = study.get_trials(deepcopy=False)
        if sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials) >= until:
            return False
        return source_helps(trials, n_first=begin, minimize=study.direction == StudyDirection.MINIMIZE)

    return make


def _begin_after(trials: Sequence[FrozenTrial], n_first: int) -> int:
    """Return the number of the first trial that is neither one of the first so many nor a retry."""
    own = sorted(trial.number for trial in trials if origin_of(trial) == trial.number)
    return own[n_first] if n_first < len(own) else len(trials)


def source_helps(trials: Sequence[FrozenTrial], *, n_first: int, minimize: bool) -> bool:
    """Tell whether the configurations taken over are clearly better than what the study draws by itself.

    Source:
        Mann and Whitney, Annals of Mathematical Statistics 1947: the share of pairs, one of each, that the first wins.

    Args:
        trials: The study's, of which the first have the configurations; what is running is not judged yet.
        n_first: The number of the first trial that has none of the configurations.
        minimize: Whether small values are good.

    Returns:
        Whether they are; False while too few trials can tell.
    """
    ended = [trial for trial in trials if trial.state not in (TrialState.RUNNING, TrialState.FAIL)]
    costs = [(origin_of(trial), observations_of([trial], minimize=minimize)[0].cost) for trial in ended if trial.params]
    taken = [cost for origin, cost in costs if origin < n_first]
    drawn = [cost for origin, cost in costs if origin >= n_first]
    if not taken or len(drawn) < _N_DRAWN:
        return False
    wins = sum((one < other) + 0.5 * (one == other) for one in taken for other in drawn)
    return wins >= _CLEARLY * len(taken) * len(drawn)


def n_results_to_learn(search: SearchSpec) -> float:
    """Return how many results a sampler draws at random before: infinitely many for random search, none for a grid."""
    if search.sampler == "random":
        return math.inf
    if search.sampler in _SEQUENCES or is_import_path(search.sampler):
        return 0
    default = _N_STARTUP_CMAES if search.sampler == "cmaes" else _N_STARTUP
    return int(search.sampler_options.get("n_startup_trials", default))


def has_its_turn(index: int, share: float) -> bool:
    """Tell whether one of a series is among the share that is spread evenly over it, from the first one on."""
    return math.ceil(share * (index + 1) - 1e-9) > math.ceil(share * index - 1e-9)


class GivenSampler(optuna.samplers.BaseSampler):
    """Gives a trial some of its values, and leaves the others to another sampler.

    Args:
        distributions: Every parameter that a trial may draw.
        choose: Asked as the trial begins: what draws the others, and parameter → value as Optuna stores it.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        choose: Callable[[optuna.Study], tuple[optuna.samplers.BaseSampler, Mapping[str, Any]]],
    ) -> None:
        self._all = distributions
        self._choose = choose
        self._others: dict[str, BaseDistribution] = {}

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Decide what is given, and do what the other sampler does."""
        self._sampler, self._given = self._choose(study)
        self._distributions = {name: self._all[name] for name in self._given}
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the other sampler's, and what is given."""
        self._others = self._sampler.infer_relative_search_space(study, trial)
        return {**self._others, **self._distributions}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what is given, and beside it what the other sampler draws."""
        del search_space
        return {**self._sampler.sample_relative(study, trial, self._others), **self._given}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw as the other sampler does."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Do what the other sampler does."""
        self._sampler.after_trial(study, trial, state, values)
