"""Sampling from coarse to fine within one study: each stage draws around the best trials of those before.

The narrower ranges are only where a trial is drawn: it is stored under the study's own distributions, so that every
Optuna tool sees one plain study. A trial is drawn by Optuna's TPE in a study in memory, which holds the trials that lie
in the narrower ranges. The first stage draws as the sampler ``tpe`` does, which is not shown paused trials: early
results would draw the search to what learns fast before it knows what learns well.

Source:
    The course's "Tuning process" (coarse to fine; importance tiers: tune the learning rate first, then momentum,
    mini-batch size and hidden units, then the rest; 0.9 is a good default for momentum) and "Using an appropriate
    scale".
"""

import copy
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from ..config import DEFAULTS
from ..errors import SpecError
from ..metrics import Direction
from ..optuna_private import id_of_study
from ..parameters import ChoiceParameter, Parameter, complement
from ..sampler_table import SAMPLERS
from ..space import SearchSpace
from .fidelity import comparable_trials
from .promotion import is_paused
from .seeds import trial_seed
from .sequences import value_at
from .stages import ZoomPlan, default_zoom, shared_begins
from .zoom import SpaceT, fits, narrow_space, observations_of, parameter_of, plain_space, trials_inside


@final
class ZoomSampler(optuna.samplers.BaseSampler):
    """Draws coarsely at first, then around the best trials so far, then around the best of those, by TPE.

    For any Optuna study with one objective. Parameters that every trial draws are narrowed. A parameter that only some
    trials draw is sampled by itself, by TPE from its whole range.

    Args:
        n_trials: Budget of the search, at least 1. Of three stages, the first takes half of it and the others a quarter
            each; trials beyond the budget belong to the last stage.
        stages: How many; by default one for eight trials each, at most three.
        keep: Share of the trials, in (0, 1), that counts as the best; at most twenty do.
        tiers: Whether to begin with the parameter ``learning_rate`` alone, then to add ``momentum``, ``batch_size`` and
            ``units``, and then everything else, which is held at good defaults until then.
        seed: Every trial's randomness derives from it and the trial's number; by default another one each time.

    Raises:
        SpecError: If a number is outside its range.

    Example:
        >>> study = optuna.create_study(sampler=ZoomSampler(n_trials=60, seed=0))
        >>> study.optimize(objective, n_trials=60)
    """

    def __init__(
        self,
        n_trials: int,
        *,
        stages: int | None = None,
        keep: float = 0.2,
        tiers: bool = False,
        seed: int | None = None,
    ) -> None:
        begins = shared_begins(n_trials, n_stages=stages)
        self._plan = ZoomPlan(begins=begins, rule=default_zoom(keep=keep), tiers=tiers)
        self._seed = secrets.randbits(32) if seed is None else seed

    def reseed_rng(self) -> None:
        """Draw from another seed from now on."""
        self._seed = secrets.randbits(32)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what every trial so far has drawn from the same range or choices."""
        del trial
        if len(study.directions) != 1:
            raise SpecError(f"ZoomSampler ranks trials by one objective, but this study has {len(study.directions)}.")
        return intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point around the best trials of the stages before."""
        if not search_space:
            return {}
        tpe = _make_tpe(trial_seed(self._seed, trial.number, "sampler"))
        return draw_params(study, trial, plain_space(search_space), plan=self._plan, tpe=tpe)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value of a parameter that not every trial draws."""
        parameter = parameter_of(param_name, param_distribution)
        if trial.number == 0 and self._plan.tiers and parameter is not None and parameter.tier > 1:
            return good_default(parameter)  # what every trial draws is not known yet
        tpe = _make_tpe(trial_seed(self._seed, trial.number, f"independent {param_name}"))
        return tpe.sample_independent(study, trial, param_name, param_distribution)


@final
class SpaceZoomSampler(optuna.samplers.BaseSampler):
    """Draws one trial of a study file's search from coarse to fine; in the first stage as the sampler ``tpe`` does."""

    def __init__(self, space: SearchSpace, plan: ZoomPlan, *, seed: int) -> None:
        self._space = space
        self._plan = plan
        self._tpe = _make_tpe(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space; parameters that this trial does not draw get no value."""
        del study, trial
        return self._space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point around the best trials of the stages before."""
        plan = self._plan.among(study.get_trials(deepcopy=False))
        drawn = draw_params(study, trial, self._space, plan=plan, tpe=self._tpe)
        return {name: value for name, value in drawn.items() if name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value of a parameter of which too little is known, or that only a value fixed from outside needs."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def draw_params(
    study: optuna.Study, trial: FrozenTrial, space: SpaceT, *, plan: ZoomPlan, tpe: optuna.samplers.TPESampler
) -> dict[str, Any]:
    """Return a trial's params, drawn from the space of the stage that its number belongs to."""
    stage = plan.stage_of(trial.number)
    others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
    direction = Direction.of(study)
    narrowed = stage_spaces(space, others, plan, direction, last=stage)[-1]
    held = {
        name: good_default(parameter)
        for parameter in plan.held(narrowed.parameters, stage)
        for name in narrowed.stored_names(parameter)
    }
    if stage == 0 and not held:
        return tpe.sample_relative(study, trial, tpe.infer_relative_search_space(study, trial))
    within = trials_inside(narrowed.distributions(), others)
    if stage == 0:
        shown = [other for other in within if other.state not in (TrialState.FAIL, TrialState.WAITING)]
    else:
        shown = comparable_trials(within, direction)
    drawn = _study_in_memory(direction, shown, holding(held, tpe) if held else tpe).ask()
    narrowed.suggest(drawn)  # the whole space: what is drawn may depend on what is held
    return drawn.params


def stage_spaces(
    space: SpaceT, trials: Sequence[FrozenTrial], plan: ZoomPlan, direction: Direction, *, last: int | None = None
) -> list[SpaceT]:
    """Return the spaces of the stages up to ``last``, the whole one first, as the trials known now give them.

    A stage's space lies around the best of the trials of all stages before that lie in the space of the one before.
    Where those trials say nothing, or another zoom is not worth it, the stage keeps the space of the one before.
    """
    spaces = [space]
    for begin in plan.begins[:last]:
        distributions = spaces[-1].distributions()
        before = [trial for trial in trials if trial.number < begin and fits(distributions, trial)]
        observations = observations_of(before, direction)
        spaces.append(narrow_space(spaces[-1], observations, root=space, rule=plan.rule).space)
    return spaces


def left_outside(
    space: SearchSpace, trials: Sequence[FrozenTrial], plan: ZoomPlan, direction: Direction, *, stage: int
) -> set[int]:
    """Return the numbers of the paused trials that lie outside the space of the stage that begins, counted from 0.

    If they stayed, they would fill the rungs beside the new ones, and nearly all of those would then train on.
    """
    distributions = stage_spaces(space, trials, plan, direction, last=stage)[-1].distributions()
    return {trial.number for trial in trials if is_paused(trial) and not fits(distributions, trial)}


def good_default(parameter: Parameter) -> Any:
    """Return a sensible value of a parameter, as Optuna stores it, within its range.

    Choices and most ranges have what ``NetworkConfig`` and ``TrainingConfig`` have, momentum 0.9 and batches of 64
    among them, or the nearest that the range allows. Depth, widths and what no config knows are taken from the middle
    of the range on its own scale; if the choices lack the config's value, the first is taken.

    Example:
        >>> good_default(FloatParameter(name="momentum", low=0.5, high=0.999, scale="log-complement"))
        0.1
    """
    default = DEFAULTS.get(parameter.name)
    if isinstance(parameter, ChoiceParameter):
        return default if default in parameter.choices else parameter.choices[0]
    if default is None or parameter.name in ("depth", "units"):
        return value_at(parameter.distribution, 0.5)
    stored = complement(default) if parameter.scale == "log-complement" else default
    return min(max(stored, parameter.distribution.low), parameter.distribution.high)


def holding(held: Mapping[str, Any], sampler: optuna.samplers.BaseSampler) -> optuna.samplers.BaseSampler:
    """Return a sampler that gives the parameters held their values, and leaves the others to another sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # chosen: it does what is needed here
        return optuna.samplers.PartialFixedSampler(dict(held), sampler)


def _study_in_memory(
    direction: Direction, trials: Iterable[FrozenTrial], sampler: optuna.samplers.BaseSampler
) -> optuna.Study:
    """Return a study that holds copies of trials, with only what TPE needs.

    ``Study.add_trials`` would validate every trial for every draw, and copy everything that it holds.
    """
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(direction=direction.optuna, storage=storage, sampler=sampler)
    for trial in trials:
        bare, last = copy.copy(trial), trial.last_step
        bare.intermediate_values = {} if last is None else {last: trial.intermediate_values[last]}
        bare.user_attrs, bare.system_attrs = {}, {}
        storage.create_new_trial(id_of_study(study), template_trial=bare)
    return study


def _make_tpe(seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # chosen, with its settings named
        return optuna.samplers.TPESampler(**SAMPLERS["tpe"].settings, seed=seed)
