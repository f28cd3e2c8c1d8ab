"""The samplers of a study file, by name, seeded by the study's seed and the trial's number.

Every setting that Optuna has changed its mind about is named here: the defaults of another release must not change
what a resumed study does.
"""

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution

from ..errors import SpecError, nearest_name
from ..imports import describe_error, import_callable, users_code
from ..space import SearchSpace
from ..spec import SAMPLERS, SearchSpec
from .seeds import trial_seed
from .sequences import GridSequence, SequenceSampler, SobolSequence
from .stages import Stages, default_zoom, stages_of_search, stages_of_study
from .tpe import TPE_SETTINGS
from .zoom_sampler import SpaceZoomSampler, ZoomPlan

#: Makes the sampler of one trial from the number that its randomness derives from.
SamplerFactory = Callable[[int], optuna.samplers.BaseSampler]

_Made = TypeVar("_Made")
_GRID_POINTS = 5
#: Candidates, populations and start-up trials beyond this fill the memory, or never end.
_MAX_OPTION = 1_000_000


def make_sampler_factory(
    search: SearchSpec, space: SearchSpace, *, seed: int, stages: Stages | None = None
) -> SamplerFactory:
    """Return what makes each trial's sampler.

    A sampler keeps nothing that the storage does not, so one is made for every trial, with a seed of its own: two
    workers, or a resumed study, never repeat each other's parameters, and 25 + 25 trials equal 50.

    Args:
        search: Its ``sampler``, ``sampler_options`` and ``trials``.
        space: What is drawn.
        seed: The study's seed.
        stages: A begun study's, of the sampler ``zoom``; by default those of a new one.

    Raises:
        SpecError: If the sampler does not take an option, needs what is not installed, or cannot fill the budget.
    """
    options = dict(search.sampler_options)
    if search.sampler == "grid":
        return _grid_factory(search, space, options, seed=seed)
    if search.sampler == "qmc":
        return _qmc_factory(space, options, seed=seed)
    if search.sampler == "zoom":
        plan = zoom_plan(search, stages=stages)
        return lambda number: SpaceZoomSampler(space, plan, seed=trial_seed(seed, number, "sampler"))
    sampler_class, fixed = _stock_sampler(search.sampler, space)
    parameters = option_names(sampler_class)
    check_options(f"sampler {search.sampler!r}", options, [name for name in parameters if name != "seed"])

    for name, value in options.items():
        if isinstance(value, int) and abs(value) > _MAX_OPTION:
            raise SpecError(f"search.sampler_options.{name} must be at most {_MAX_OPTION}, but got {value}.")

    def make(number: int) -> optuna.samplers.BaseSampler:
        seeded: dict[str, Any] = {"seed": trial_seed(seed, number, "sampler")} if "seed" in parameters else {}
        if "independent_sampler" in fixed:
            random = optuna.samplers.RandomSampler(seed=trial_seed(seed, number, "independent sampler"))
            seeded |= {"independent_sampler": random}
        return construct(
            sampler_class,
            {**fixed, **options, **seeded},
            what=f"sampler {search.sampler!r}",
            kind=optuna.samplers.BaseSampler,  # type: ignore[type-abstract]  # isinstance takes it
        )

    _refuse_sequences(search.sampler, make(0))  # a wrong option, too, must be refused before any work starts
    return make


def zoom_plan(search: SearchSpec, *, stages: Stages | None = None) -> ZoomPlan:
    """Return how a study with the sampler ``zoom`` goes from coarse to fine.

    Args:
        search: Its ``sampler_options``: ``stages`` (their number), ``keep`` (0.2) and ``tiers`` (false).
        stages: A begun study's; by default those of a new one.

    Raises:
        SpecError: If an option is unknown, of the wrong type, or outside its range.
    """
    options = search.sampler_options
    check_options("sampler 'zoom'", options, ["stages", "keep", "tiers"])
    keep, tiers = options.get("keep", default_zoom().keep), options.get("tiers", False)
    if not isinstance(keep, int | float) or isinstance(keep, bool):
        raise SpecError(f"search.sampler_options.keep must be a number, but got {keep!r}.")
    if not isinstance(tiers, bool):
        raise SpecError(f"search.sampler_options.tiers must be true or false, but got {tiers!r}.")
    return ZoomPlan(stages=stages or stages_of_search(search), rule=default_zoom(keep=keep), tiers=tiers)


def plan_of_study(study: optuna.Study, search: SearchSpec) -> ZoomPlan | None:
    """Return how a begun study goes from coarse to fine; None with another sampler than ``zoom``."""
    return zoom_plan(search, stages=stages_of_study(study, search)) if search.sampler == "zoom" else None


def check_options(what: str, options: Mapping[str, Any], allowed: list[str]) -> None:
    """Refuse an option that a sampler or a pruner does not take.

    Raises:
        SpecError: Naming the nearest option that it does take.
    """
    for name in options:
        if name not in allowed:
            raise SpecError(f"The {what} takes no option {name!r}. {nearest_name(name, allowed)}")


def _stock_sampler(name: str, space: SearchSpace) -> tuple[Any, dict[str, Any]]:
    if name == "random":
        return optuna.samplers.RandomSampler, {}
    if name == "tpe":
        return optuna.samplers.TPESampler, dict(TPE_SETTINGS)
    if name == "cmaes":
        continuous = [
            distribution
            for distribution in space.distributions().values()
            if not isinstance(distribution, CategoricalDistribution)
        ]
        if len(continuous) < 2:
            raise SpecError(
                f"The sampler 'cmaes' adapts a covariance, so it needs at least two parameters with a range, but the "
                f"space has {len(continuous)}. Use tpe or random."
            )
        return optuna.samplers.CmaEsSampler, {
            "n_startup_trials": 1,
            "consider_pruned_trials": True,
            "warn_independent_sampling": False,
            "independent_sampler": None,
        }
    if name == "gp":
        if importlib.util.find_spec("torch") is None:
            raise SpecError("The sampler 'gp' needs PyTorch. Install it with: pip install 'optuna-caviar[gp]'")
        return optuna.samplers.GPSampler, {
            "n_startup_trials": 10,
            "deterministic_objective": False,
            "warn_independent_sampling": False,
            "independent_sampler": None,
        }
    return import_callable(name, what="search.sampler"), {}


def _refuse_sequences(name: str, sampler: optuna.samplers.BaseSampler) -> None:
    """Refuse Optuna's samplers that walk a sequence, which no sampler made for one trial, beside other workers, can.

    All others of Optuna's find what they need in the study's trials and attributes.

    Raises:
        SpecError: Naming the sampler of ours that does the same.
    """
    ours = {
        optuna.samplers.GridSampler: ("grid", "choices for every value of a parameter, or points for a range"),
        optuna.samplers.BruteForceSampler: ("grid", "choices for every value of a parameter, or points for a range"),
        optuna.samplers.QMCSampler: ("qmc", "qmc_type = sobol or halton in sampler_options"),
    }
    for theirs, (instead, how) in ours.items():
        if isinstance(sampler, theirs):
            raise SpecError(
                f"search.sampler {name!r} walks a sequence that several workers, or a resumed study, would lose. "
                f"Use sampler = {instead!r}, with {how}: trial n takes its point n, on whichever worker."
            )


def _grid_factory(search: SearchSpec, space: SearchSpace, options: dict[str, Any], *, seed: int) -> SamplerFactory:
    check_options("sampler 'grid'", options, ["points"])
    points = options.get("points", _GRID_POINTS)
    if not isinstance(points, int) or isinstance(points, bool) or points < 1:
        raise SpecError(f"search.sampler_options.points must be a whole number of at least 1, but got {points!r}.")
    distributions = space.distributions()
    grid = GridSequence(distributions, points=points, seed=seed)
    if search.trials > len(grid):
        raise SpecError(
            f"The grid has {len(grid)} points ({points} for each range), fewer than the {search.trials} trials asked "
            "for. Lower search.trials, or raise points in search.sampler_options."
        )
    return lambda number: SequenceSampler(distributions, grid, number=number)


def _qmc_factory(space: SearchSpace, options: dict[str, Any], *, seed: int) -> SamplerFactory:
    check_options("sampler 'qmc'", options, ["qmc_type"])
    engine = options.get("qmc_type", "sobol")
    if engine not in ("sobol", "halton"):
        raise SpecError(f"No qmc_type is called {engine!r}. {nearest_name(str(engine), ('sobol', 'halton'))}")
    distributions = space.distributions()
    sequence = SobolSequence(distributions, seed=seed, engine=engine)
    return lambda number: SequenceSampler(distributions, sequence, number=number)


def try_sampler(search: SearchSpec, space: SearchSpace, make: SamplerFactory) -> None:
    """Draw a trial that nobody keeps, where a sampler or its options are the user's own: Optuna checks few of them.

    Raises:
        SpecError: If that raises.
    """
    if search.sampler in SAMPLERS and not search.sampler_options:
        return
    with warnings.catch_warnings(), users_code(f"search.sampler {search.sampler!r}: drawing a trial with it"):
        warnings.simplefilter("ignore")
        space.suggest(optuna.create_study(sampler=make(0)).ask())


def option_names(factory: Callable[..., Any]) -> list[str]:
    """Return the arguments of what makes a sampler or a pruner; none where it is written in C and shows none."""
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []


def construct(factory: Callable[..., Any], options: Mapping[str, Any], *, what: str, kind: type[_Made]) -> _Made:
    """Make a sampler or a pruner of the study file's options.

    Args:
        factory: A class, or a function of the user's.
        options: What it is called with.
        what: Its name, for errors.
        kind: Optuna's class that it must be one of.

    Raises:
        SpecError: If it refuses them, raises whatever else, or makes something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # chosen, with its settings named
            made = factory(**options)
    except (TypeError, ValueError) as error:
        raise SpecError(f"The {what} refuses its options: {error}") from error
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        raise SpecError(f"The {what} cannot be made: it raised {describe_error(error)}.") from error
    if not isinstance(made, kind):
        raise SpecError(
            f"The {what} makes a {type(made).__name__}, but what is named there must make an "
            f"optuna.{kind.__module__.split('.')[1]}.{kind.__name__}. Derive it from that class."
        )
    return made
