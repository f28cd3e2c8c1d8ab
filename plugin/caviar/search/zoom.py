"""Coarse to fine: from the trials of a study, a narrower space that holds the best of them.

Each parameter is narrowed on its own scale, and only where the best trials say so: one whose best values are scattered
like all its values keeps its range.

Source:
    The course's "Tuning process": "sample coarsely, find the region that works well, zoom in to it, and sample more
    densely there".
"""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..attributes import DIVERGED, PARENT_TRIAL
from ..metrics import Direction
from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from ..space import SearchSpace, suggest_value
from .narrowing import MIN_TRIALS, ZoomRule, narrow_choices, narrow_range
from .sequences import contains


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainSpace:
    """The space of any Optuna study: parameters that every trial draws, by the names that Optuna stores."""

    parameters: tuple[Parameter, ...]  # those that can be narrowed
    # What is always drawn from its whole range: with a step, or with choices that are equal to each other.
    others: Mapping[str, BaseDistribution] = dataclasses.field(default_factory=dict)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of every parameter."""
        return {**{parameter.name: parameter.distribution for parameter in self.parameters}, **self.others}

    def stored_names(self, parameter: Parameter) -> tuple[str, ...]:
        """Return the one name under which a parameter is stored."""
        return (parameter.name,)

    def with_parameters(self, parameters: Iterable[Parameter]) -> "PlainSpace":
        """Return this space with other ranges."""
        return dataclasses.replace(self, parameters=tuple(parameters))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw every parameter."""
        return {name: suggest_value(trial, name, drawn) for name, drawn in self.distributions().items()}


SpaceT = TypeVar("SpaceT", SearchSpace, PlainSpace)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """One trial, as a zoom sees it."""

    params: Mapping[str, Any]  # as Optuna stores them
    cost: float  # the best metric that it reported, smaller being better; infinite without one, or if it diverged
    complete: bool = True  # whether it was trained to its end


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomResult(Generic[SpaceT]):
    """A narrower space, or why there is none."""

    space: SpaceT  # the narrower space; if another zoom is not worth it, the space given
    worthwhile: bool  # whether the space differs enough to search on in it
    reason: str  # why, in a sentence or two for the user
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by parameter: what became of its range and why
    n_best: int = 0  # trials that the space was drawn around
    volume: float = 1.0  # the new space's share of the given one, on the parameters' own scales; above 1 where it grew


def narrow_space(
    space: SpaceT,
    observations: Sequence[Observation],
    *,
    root: SpaceT | None = None,
    rule: ZoomRule | None = None,
) -> ZoomResult[SpaceT]:
    """Return the space around the best trials, or the given one with the reason why another zoom is not worth it.

    It holds every one of the best; it may reach beyond ``space`` where the best lie at its edge, but never beyond
    ``root``, what the first study of this search drew from, by default ``space``. The same observations give the same
    space, in any order.

    Example:
        >>> narrow_space(space, observations_of(study.get_trials(), Direction.MAXIMIZE)).reason
        'The best 12 of 60 trials lie in 8 % of the space.'
    """
    rule, root = rule or ZoomRule(), root or space
    refusal = _refuse(observations)
    if refusal is not None:
        return ZoomResult(space=space, worthwhile=False, reason=refusal)
    ranked = sorted(
        (observation for observation in observations if math.isfinite(observation.cost)),
        key=lambda observation: (observation.cost, sorted(map(repr, observation.params.items()))),
    )
    n_best = max(2, min(math.ceil(rule.keep * len(ranked)), rule.max_best or len(ranked)))
    narrowed = {parameter.name: parameter for parameter in space.parameters}
    notes, volume, changed = {}, 1.0, False
    wide = {parameter.name: parameter for parameter in root.parameters}
    for name, parameter in narrowed.items():
        names = space.stored_names(parameter)
        best, rest = _values(ranked[:n_best], names), _values(ranked[n_best:], names)
        if isinstance(parameter, ChoiceParameter):
            outcome = narrow_choices(parameter, best, rest, doubt=rule.doubt)
        else:
            before = wide[name]
            assert not isinstance(before, ChoiceParameter)  # a child's parameter is of its parent's kind
            outcome = narrow_range(parameter, before, best=best, rest=rest, rule=rule)
        narrowed[name], notes[name] = outcome.parameter, outcome.note
        volume *= outcome.share
        changed = changed or outcome.parameter != parameter
    worthwhile = changed and not 0.9 < volume <= 1.0
    spread = "are spread over the whole space, so a zoom changes nothing."
    where = f"lie in {100 * volume:.2g} % of the space." if changed else spread
    reason = f"The best {n_best} of {len(ranked)} trials {where}"
    if changed and not any(observation.complete for observation in ranked):
        reason += " None was trained to its end: they are ranked by the best that they reached."
    if changed and not worthwhile:
        reason += " Another zoom would gain too little."
    new = space.with_parameters(narrowed.values()) if worthwhile else space
    return ZoomResult(space=new, worthwhile=worthwhile, reason=reason, notes=notes, n_best=n_best, volume=volume)


def observations_of(trials: Iterable[FrozenTrial], direction: Direction) -> list[Observation]:
    """Return what a zoom sees of stored trials: every trial except failed ones, whether or not it has ended."""
    return [
        Observation(params=trial.params, cost=cost_of(trial, direction), complete=trial.state == TrialState.COMPLETE)
        for trial in trials
        if trial.state != TrialState.FAIL
    ]


def cost_of(trial: FrozenTrial, direction: Direction) -> float:
    """Return the best metric that a trial reported, smaller being better; infinite if it failed or diverged."""
    if trial.state == TrialState.FAIL or trial.user_attrs.get(DIVERGED):
        return math.inf
    values = [*trial.intermediate_values.values(), *([] if trial.value is None else [trial.value])]
    return min((direction.cost(value) for value in values if math.isfinite(value)), default=math.inf)


def fits(distributions: Mapping[str, BaseDistribution], trial: FrozenTrial) -> bool:
    """Tell whether what a trial drew lies in a space; a parameter that the space lacks may have any value."""
    return all(contains(distributions[name], value) for name, value in trial.params.items() if name in distributions)


def trials_inside(distributions: Mapping[str, BaseDistribution], trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return copies of the trials that lie in a space, as if they had been drawn from it.

    They have its distributions, which Optuna finds compatible with what is drawn there, and no parameters beyond it.
    """
    found = []
    for trial in trials:
        params = {name: value for name, value in trial.params.items() if name in distributions}
        if params and fits(distributions, trial):
            inside = copy.copy(trial)
            inside.params, inside.distributions = params, {name: distributions[name] for name in params}
            found.append(inside)
    return found


def copies_that_fit(space: SearchSpace, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return new trials, for a study on a narrower space, like the complete and pruned ones that lie in it.

    Trials that have not ended, paused ones too, stay with the wider study: it may yet resume them, and both studies
    would then train the same. Each copy has the user attribute ``parent_trial``, its number in the wider study.
    """
    return [
        create_trial(
            state=trial.state,
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**trial.user_attrs, PARENT_TRIAL: trial.number},
            intermediate_values=trial.intermediate_values,
        )
        for trial in trials_inside(space.distributions(), trials)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]


def plain_space(distributions: Mapping[str, BaseDistribution]) -> PlainSpace:
    """Return the space of what a study draws, each range on the scale on which Optuna samples it."""
    found = {name: parameter_of(name, distribution) for name, distribution in distributions.items()}
    return PlainSpace(
        parameters=tuple(parameter for parameter in found.values() if parameter is not None),
        others={name: distributions[name] for name, parameter in found.items() if parameter is None},
    )


def parameter_of(name: str, distribution: BaseDistribution) -> Parameter | None:
    """Return the parameter that a distribution draws, or None if its range is not to be narrowed."""
    if isinstance(distribution, CategoricalDistribution):
        choices: tuple[Any, ...] = distribution.choices
        repeated = any(choice in choices[:place] for place, choice in enumerate(choices))
        return None if repeated else ChoiceParameter(name=name, choices=choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.single():
        return None
    scale: Literal["log", "uniform"] = "log" if distribution.log else "uniform"
    if isinstance(distribution, IntDistribution) and distribution.step == 1:
        return IntParameter(name=name, low=distribution.low, high=distribution.high, scale=scale)
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        return FloatParameter(name=name, low=distribution.low, high=distribution.high, scale=scale)
    return None


def _refuse(observations: Sequence[Observation]) -> str | None:
    finite = [observation.cost for observation in observations if math.isfinite(observation.cost)]
    if not observations:
        return "The study has no trials yet, so there is nothing to zoom in to. Run some first."
    if not finite:
        return (
            f"None of the {len(observations)} trials has a result: each diverged, or was pruned before it reported "
            "one. Lower the learning rate's range, or prune later."
        )
    if len(finite) < MIN_TRIALS:
        return f"A zoom needs at least {MIN_TRIALS} trials with a result, but the study has {len(finite)}. Run more."
    if min(finite) == max(finite):
        return f"All {len(finite)} trials reached the same result, so there is no best region to zoom in to."
    return None


def _values(trials: Sequence[Observation], names: Sequence[str]) -> list[Any]:
    return [trial.params[name] for trial in trials for name in names if name in trial.params]
