"""Coarse to fine: from the trials of a study, a narrower space that holds the best of them.

The course: "sample coarsely, find the region that works well, zoom in to it, and sample more densely there". Here each
parameter is narrowed on its own scale, and only where the best trials say so: a parameter whose best values are
scattered like all its values keeps its range.

Source:
    The course's "Tuning process" (coarse to fine).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..attributes import DIVERGED, PARENT_TRIAL
from ..parameters import ChoiceParameter
from ..space import SearchSpace
from .narrowing import ZoomRule, narrow_choices, narrow_range
from .plain_space import PlainSpace

SpaceT = TypeVar("SpaceT", SearchSpace, PlainSpace)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """One trial, as a zoom sees it.

    Attributes:
        params: As Optuna stores them.
        cost: What is minimised: the best metric it reported, its sign turned if large is good; not finite if it
            reported nothing or diverged.
        complete: Whether it was trained to its end.
    """

    params: Mapping[str, Any]
    cost: float
    complete: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomResult(Generic[SpaceT]):
    """A narrower space, or why there is none.

    Attributes:
        space: The narrower space; the space given where another zoom is not worth it.
        worthwhile: Whether the space differs enough to search on in it.
        reason: Why, in a sentence or two for the user.
        notes: Parameter → what became of its range and why, in words.
        n_best: Trials that the space was drawn around.
        volume: The new space's share of the given one, on the parameters' own scales; above 1 where it grew.
    """

    space: SpaceT
    worthwhile: bool
    reason: str
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    n_best: int = 0
    volume: float = 1.0


def narrow_space(
    space: SpaceT,
    observations: Sequence[Observation],
    *,
    root: SpaceT | None = None,
    rule: ZoomRule | None = None,
) -> ZoomResult[SpaceT]:
    """Return the space around the best trials.

    It holds every one of the best; it may reach beyond ``space`` where the best lie at its edge, but never beyond
    ``root``. The same observations give the same space, in any order.

    Args:
        space: What these trials were drawn from.
        observations: The study's trials.
        root: What the first study of this search drew from; ``space`` where this is the first zoom.
        rule: How to narrow.

    Returns:
        The narrower space, or the given one with the reason why another zoom is not worth it.

    Example:
        >>> narrow_space(space, observations_of(study.get_trials(), minimize=False)).reason
        'The best 12 of 60 trials lie in 8 % of the space.'
    """
    rule, root = rule or ZoomRule(), root or space
    refusal = _refuse(observations, rule)
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
        best = [value for trial in ranked[:n_best] for value in _values(trial, names)]
        rest = [value for trial in ranked[n_best:] for value in _values(trial, names)]
        if isinstance(parameter, ChoiceParameter):
            outcome = narrow_choices(parameter, best, rest, doubt=rule.doubt)
        else:
            before = wide[name]
            assert not isinstance(before, ChoiceParameter)  # a child's parameter is of its parent's kind
            outcome = narrow_range(parameter, before, best=best, rest=rest, rule=rule)
        narrowed[name], notes[name] = outcome.parameter, outcome.note
        volume *= outcome.share
        changed = changed or outcome.parameter != parameter
    reason = f"The best {n_best} of {len(ranked)} trials lie in {100 * volume:.2g} % of the space."
    if not any(observation.complete for observation in ranked):
        reason += " None was trained to its end: they are ranked by the best that they reached."
    if not changed:
        reason = (
            f"The best {n_best} of {len(ranked)} trials are spread over the whole space; a zoom would change nothing."
        )
    elif 0.9 < volume <= 1.0:
        reason = f"{reason} That is too little to gain by another zoom."
    worthwhile = changed and not 0.9 < volume <= 1.0
    new = space.with_parameters(narrowed.values()) if worthwhile else space
    return ZoomResult(space=new, worthwhile=worthwhile, reason=reason, notes=notes, n_best=n_best, volume=volume)


def observations_of(trials: Iterable[FrozenTrial], *, minimize: bool) -> list[Observation]:
    """Return what a zoom sees of stored trials: all that reported something, whatever became of them, but failed ones.

    Args:
        trials: Of one study.
        minimize: Whether small values are good.
    """
    observations = []
    for trial in trials:
        values = [*trial.intermediate_values.values(), *([] if trial.value is None else [trial.value])]
        costs = [value if minimize else -value for value in values if math.isfinite(value)]
        if trial.state != TrialState.FAIL:
            cost = math.inf if trial.user_attrs.get(DIVERGED) else min(costs, default=math.inf)
            complete = trial.state == TrialState.COMPLETE
            observations.append(Observation(params=trial.params, cost=cost, complete=complete))
    return observations


def fits(distributions: Mapping[str, BaseDistribution], trial: FrozenTrial) -> bool:
    """Tell whether what a trial drew lies in a space's distributions; where it has none, any value does."""
    return all(_contains(distributions[name], value) for name, value in trial.params.items() if name in distributions)


def copies_that_fit(space: SearchSpace, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return copies, for a study on a narrower space, of the trials that lie in it.

    A copy has the narrower space's distributions, so that Optuna finds them compatible with what is drawn there, and
    without the parameters that are no longer searched. What has not ended stays the wider study's, paused trials too:
    it may yet go on with them, and two would then train the same. Once its budget is spent it has none.

    Args:
        space: The narrower space.
        trials: Of the wider study; only complete and pruned ones are copied.

    Returns:
        Trials for ``Study.add_trials``, each with the user attribute ``parent_trial``: its number in the wider study.
    """
    distributions = space.distributions()
    copies = []
    for trial in trials:
        params = {name: value for name, value in trial.params.items() if name in distributions}
        if params and fits(distributions, trial) and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            copies.append(
                create_trial(
                    state=trial.state,
                    values=trial.values,
                    params=params,
                    distributions={name: distributions[name] for name in params},
                    user_attrs={**trial.user_attrs, PARENT_TRIAL: trial.number},
                    intermediate_values=trial.intermediate_values,
                )
            )
    return copies


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(distribution, FloatDistribution | IntDistribution) or isinstance(value, str):
        return False
    return bool(distribution.low <= value <= distribution.high)


def _refuse(observations: Sequence[Observation], rule: ZoomRule) -> str | None:
    """Return why these trials say nothing of where to look, or None if they do."""
    finite = [observation.cost for observation in observations if math.isfinite(observation.cost)]
    if not observations:
        return "The study has no trials yet, so there is nothing to zoom in to. Run some first."
    if not finite:
        return (
            f"None of the {len(observations)} trials has a result: each diverged, or was pruned before it reported "
            "one. Lower the learning rate's range, or prune later."
        )
    if len(finite) < rule.min_trials:
        return (
            f"A zoom needs at least {rule.min_trials} trials with a result, but the study has {len(finite)}. Run more."
        )
    if min(finite) == max(finite):
        return (
            f"All {len(finite)} trials reached the same result, so none is better than another: nothing to zoom in to."
        )
    return None


def _values(trial: Observation, names: Sequence[str]) -> list[Any]:
    return [trial.params[name] for name in names if name in trial.params]
