"""Warm start: what a search on one data set takes over from a search on another; docs/warm-start.md has what it gains.

It takes two things: the best configurations, which are tried first, and a narrower space around the best trials, from
which a share of the draws comes that would otherwise be blind. The new study still searches the whole space of its
study file, and its sampler sees the configurations as trials like any other.

The trial with index n takes the n-th configuration. Of the draws after these that the study's sampler makes at random,
since it has too few results to learn from, a share comes from the narrower space, once the configurations have proved
better than the study's own draws: believed without proof, it raised the regret from an unrelated source by up to a
half, and added nothing measurable from a related one (benchmarks/warm_start.py, 2026-11-25). Which trials these may be
follows from their index, so that a resumed study repeats nothing.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from ..attributes import PARENT_TRIAL, RETRY_HISTORY, WARM_START
from ..errors import SpecError
from ..metrics import Direction
from ..parameters import ChoiceParameter, FloatParameter, Parameter, complement
from ..sampler_table import known_sampler
from ..space import SearchSpace, parse_space, space_table
from ..spec import SearchSpec
from .sequences import origin_of, position_of, sequence_index, value_at
from .stages import default_zoom
from .zoom import cost_of, narrow_space, observations_of

#: Draws of the study's own without which the configurations cannot be judged, and the share of pairs of one of each
#: that the configurations must win.
_N_DRAWN = 5
_CLEARLY = 0.75
_POOL = 0.2  # share of the source's trials among which configurations are chosen
#: Share of the new study's trials that configurations take at most, except that one is always taken.
_BUDGET_SHARE = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmRule:
    """How much is taken over.

    The defaults were chosen with benchmarks/warm_start.py (2026-11-25, eight tasks, five seeds), while the narrower
    space was believed without proof: five configurations gained more than three on related tasks and, beside them, the
    narrower space neither gained nor lost measurably up to half of the random draws; with all of them an unrelated
    source cost up to a fifth of the regret.

    Raises:
        SpecError: If a number is outside its range.
    """

    n_configurations: int = 5  # of the best, that are tried first
    # How much each must differ from those before it: the mean over the parameters of the difference on the parameter's
    # own scale, as a share of its range, in [0, 1]; another choice differs by 1.
    distance: float = 0.1
    prior_share: float = 1 / 3  # of the draws that a sampler would make at random, those from the narrower space

    def __post_init__(self) -> None:
        if self.n_configurations < 0:
            raise SpecError(f"n_configurations must be at least 0, but got {self.n_configurations}.")
        for name in ("distance", "prior_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} must lie in [0, 1], but got {getattr(self, name)}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceStudy:
    """The source of a warm start, or one of its zooms: its name, what it searched, and all of its trials."""

    name: str
    space: SearchSpace
    trials: Sequence[FrozenTrial]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """A trial of the source that is tried again."""

    study: str  # the study that it comes from
    trial: int  # its number there
    value: float  # the best metric that it reached there
    params: Mapping[str, Any]  # the params taken over, as Optuna stores them in the new study


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a study takes over from another one, kept with the study: the source may change, or be deleted."""

    source: str  # the other study's name
    n_trials: int  # its trials with a result, including its zooms'
    configurations: tuple[Configuration, ...]  # trial n of the new study takes the n-th; retries do not count
    prior: SearchSpace | None  # the new study's space, narrowed as the source's best trials tell, or None
    prior_share: float  # share of the draws that come from it, of those that a sampler would make at random
    reason: str  # what the source's best trials show, in words


def learn_from(
    source: str,
    studies: Sequence[SourceStudy],
    space: SearchSpace,
    *,
    direction: Direction,
    trials: int,
    rule: WarmRule = WarmRule(),
) -> WarmStart:
    """Return what a new study takes over from a source and its zooms; the first study's space holds the others'.

    A value outside the new range becomes the nearest end. The new study's sampler draws a parameter that the source did
    not have, or whose choice no longer exists. ``trials`` is the new study's budget. Raises SpecError if the source has
    no result, or shares no hyperparameter with the new study.
    """
    root = studies[0].space
    common = {parameter.name for parameter in root.parameters} & {parameter.name for parameter in space.parameters}
    if not common:
        raise SpecError(
            f"The study {source!r} searched {_names(root)}, this one searches {_names(space)}: they have nothing in "
            "common, so nothing can be taken over. Name another study, or start without --from."
        )
    costs = (  # a zoom's copies of its parent's trials are the parent's
        (cost_of(trial, direction), study, trial)
        for study in studies
        for trial in study.trials
        if PARENT_TRIAL not in trial.user_attrs
    )
    found = [(cost, study, trial) for cost, study, trial in costs if math.isfinite(cost)]
    ranked = sorted(found, key=lambda entry: (entry[0], entry[1].name, entry[2].number))
    if not ranked:
        raise SpecError(
            f"The study {source!r} has no trial with a result, so nothing can be taken over. Run it first, name "
            "another study, or start without --from."
        )
    most = max(1, min(rule.n_configurations, int(_BUDGET_SHARE * trials))) if rule.n_configurations else 0
    best = ranked[: max(most, math.ceil(_POOL * len(ranked)))]
    distributions = root.distributions()
    chosen: list[FrozenTrial] = []
    configurations: dict[str, Configuration] = {}
    for cost, study, trial in best:
        # Neighbours of the best would teach only what it teaches.
        unlike = all(_distance(trial.params, other.params, distributions) >= rule.distance for other in chosen)
        if len(chosen) == most or not unlike:
            continue
        chosen.append(trial)
        params = fitted_params(study.space.hyperparameters(trial.params), space)
        taken = Configuration(study=study.name, trial=trial.number, value=direction.cost(cost), params=params)
        configurations.setdefault(json.dumps(params, sort_keys=True), taken)  # two may be the same once they fit
    kept = [trial for _, _, trial in ranked]
    narrowed = narrow_space(root, observations_of(kept, direction), rule=default_zoom())
    return WarmStart(
        source=source,
        n_trials=len(ranked),
        configurations=tuple(configurations.values()),
        prior=_narrowed_like(space, root, narrowed.space),
        prior_share=rule.prior_share,
        reason=narrowed.reason,
    )


def fitted_params(hyperparameters: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Return hyperparameters as a space stores them, numbers moved into their ranges; what has no place is left out."""
    distributions = space.distributions()
    params: dict[str, Any] = {}
    for parameter in space.parameters:
        names = space.stored_names(parameter)
        for index, name in enumerate(names):
            value = hyperparameters.get(parameter.name)
            if isinstance(value, tuple):  # a width for each layer
                value = value[index] if len(names) > 1 and index < len(value) else None
            stored = _fitted(value, parameter, distributions[name])
            if stored is not None:
                params[name] = stored
    return params


def warm_start_json(warm: WarmStart) -> str:
    """Return a warm start as the text of the attribute that ``warm_start_of`` reads."""
    table = dataclasses.asdict(dataclasses.replace(warm, prior=None))
    return json.dumps(table | {"prior": None if warm.prior is None else space_table(warm.prior)})


def warm_start_of(study: optuna.Study) -> WarmStart | None:
    """Return what a study takes over from another one, or None for a cold start."""
    text = study.user_attrs.get(WARM_START)
    if text is None:
        return None
    table = json.loads(text)
    table["configurations"] = tuple(Configuration(**configuration) for configuration in table["configurations"])
    table["prior"] = None if table["prior"] is None else parse_space(table["prior"], own_names=True)
    return WarmStart(**table)


def configurations_by_trial(warm: WarmStart, trials: Iterable[FrozenTrial]) -> dict[int, Configuration]:
    """Return the configurations that a study's trials took, by trial number; a retry takes its trial's again."""
    trials = list(trials)
    retries = [trial for trial in trials if RETRY_HISTORY in trial.system_attrs]
    indices = {trial.number: sequence_index(origin_of(trial), retries) for trial in trials}
    return {number: warm.configurations[i] for number, i in indices.items() if i < len(warm.configurations)}


def warm_params(warm: WarmStart, study: optuna.Study, search: SearchSpec, *, index: int, seed: int) -> dict[str, Any]:
    """Return what the trial at an index is given, by the names that Optuna stores; its sampler draws the rest."""
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

    It is False while too few trials can tell; running trials are not judged yet.

    Source:
        Mann and Whitney, Annals of Mathematical Statistics 1947: the share of pairs, one of each, that the first wins.
    """
    taken_by = configurations_by_trial(warm, trials)
    ended = [trial for trial in trials if trial.state not in (TrialState.RUNNING, TrialState.FAIL) and trial.params]
    costs = {trial.number: cost_of(trial, direction) for trial in ended}
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


def _distance(
    params: Mapping[str, Any], others: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> float:
    apart = []
    for name, distribution in distributions.items():
        if name in params and name in others:
            if isinstance(distribution, CategoricalDistribution):
                apart.append(float(params[name] != others[name]))
            else:
                apart.append(abs(position_of(distribution, params[name]) - position_of(distribution, others[name])))
        elif name in params or name in others:
            apart.append(1.0)
    return sum(apart) / max(len(apart), 1)


def _fitted(value: Any, parameter: Parameter, distribution: BaseDistribution) -> Any:
    """Return a hyperparameter as its parameter stores it, or None where it has no place there."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if (type(choice), choice) == (type(value), value)), None)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(parameter, FloatParameter) and parameter.scale == "log-complement":
        value = complement(value)
    clipped = min(max(value, distribution.low), distribution.high)
    return round(clipped) if isinstance(distribution, IntDistribution) else float(clipped)


def _narrowed_like(space: SearchSpace, before: SearchSpace, after: SearchSpace) -> SearchSpace | None:
    """Return a space narrowed where another one was, as far as the two overlap; None where that changes nothing."""
    old = {parameter.name: parameter for parameter in before.parameters}
    new = {parameter.name: parameter for parameter in after.parameters}
    changed = [
        _within(parameter, new[parameter.name])
        if parameter.name in new and new[parameter.name] != old[parameter.name]
        else parameter
        for parameter in space.parameters
    ]
    return None if tuple(changed) == space.parameters else space.with_parameters(changed)


def _within(parameter: Parameter, other: Parameter) -> Parameter:
    """Return what two ranges or lists of choices share, in the form of the first, or the first where they do not."""
    if isinstance(parameter, ChoiceParameter) or isinstance(other, ChoiceParameter):
        if not (isinstance(parameter, ChoiceParameter) and isinstance(other, ChoiceParameter)):
            return parameter
        shared = tuple(choice for choice in parameter.choices if choice in other.choices)
        return dataclasses.replace(parameter, choices=shared) if shared else parameter
    low, high = max(parameter.low, other.low), min(parameter.high, other.high)
    if isinstance(parameter, FloatParameter):
        return dataclasses.replace(parameter, low=float(low), high=float(high)) if low < high else parameter
    first, last = math.ceil(low), math.floor(high)
    if first == last:  # a range holds two whole numbers at least
        first, last = (first, last + 1) if last < parameter.high else (first - 1, last)
    return dataclasses.replace(parameter, low=first, high=last) if first < last else parameter


def _names(space: SearchSpace) -> str:
    return ", ".join(parameter.name for parameter in space.parameters)
