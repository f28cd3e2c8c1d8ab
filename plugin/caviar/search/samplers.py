"""The samplers of a study file, made anew for every trial from the study's seed and the trial's number."""

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution

from ..errors import SpecError, nearest_name
from ..imports import describe_error, import_callable, users_code
from ..sampler_table import SAMPLERS, known_sampler
from ..space import SearchSpace
from ..spec import SearchSpec
from .seeds import trial_seed
from .sequences import GridSequence, quasi_random_point, sequence_index
from .stages import ZoomPlan, zoom_plan
from .warm_start import WarmStart, warm_params
from .zoom_sampler import SpaceZoomSampler, holding

#: Makes a trial's sampler from the number that its randomness derives from and the study that it belongs to.
SamplerFactory = Callable[[int, optuna.Study], optuna.samplers.BaseSampler]

_Made = TypeVar("_Made")
_GRID_POINTS = 5
_MAX_OPTION = 1_000_000  # candidates, populations and start-up trials beyond this fill the memory, or never end
#: Optuna's samplers that walk a sequence, which a sampler made for one trial cannot: ours that do the same, and how.
#: All others of Optuna's find what they need in the study's trials and attributes.
_SEQUENCES_OF_OPTUNA = {
    optuna.samplers.GridSampler: ("grid", "choices for every value of a parameter, or points for a range"),
    optuna.samplers.BruteForceSampler: ("grid", "choices for every value of a parameter, or points for a range"),
    optuna.samplers.QMCSampler: ("qmc", "qmc_type = sobol or halton in sampler_options"),
}


def make_sampler_factory(
    search: SearchSpec, space: SearchSpace, *, seed: int, plan: ZoomPlan | None = None, warm: WarmStart | None = None
) -> SamplerFactory:
    """Return what makes each trial's sampler.

    A sampler keeps nothing that the storage does not, so one is made for every trial, with a seed of its own: two
    workers, or a resumed study, never repeat each other's parameters, and 25 + 25 trials equal 50.

    ``plan`` is that of an existing study with the sampler ``zoom``, by default a new one's; ``warm`` is what the study
    takes over from another one. Raises SpecError if the sampler refuses an option, needs a package that is not
    installed, or cannot fill the budget.
    """
    own, point = _make_own(search, space, seed=seed, plan=plan), _make_point(search, space, seed=seed)
    n_first = 0 if warm is None else len(warm.configurations)

    def make(number: int, study: optuna.Study) -> optuna.samplers.BaseSampler:
        if warm is None and point is None:
            return own(number)
        index = sequence_index(number, study.get_trials(deepcopy=False))
        # A sequence begins after the configurations. What one of them lacks comes from somewhere in the sequence.
        given = {} if point is None else point(index - n_first if index >= n_first else index)
        if warm is not None:
            given |= warm_params(warm, study, search, index=index, seed=trial_seed(seed, number, "warm start"))
        return holding(given, own(number)) if given else own(number)

    return make


def try_sampler(search: SearchSpec, space: SearchSpace, make: SamplerFactory) -> None:
    """Draw a trial that is not kept if the sampler or its options are the user's own: Optuna checks few of them.

    Raises SpecError if that raises.
    """
    if search.sampler in SAMPLERS and not search.sampler_options:
        return
    with warnings.catch_warnings(), users_code(f"search.sampler {search.sampler!r}: drawing a trial with it"):
        warnings.simplefilter("ignore")
        study = optuna.create_study()
        study.sampler = make(0, study)
        space.suggest(study.ask())


def check_options(what: str, options: Mapping[str, Any], allowed: list[str]) -> None:
    """Raise a SpecError, naming the nearest one allowed, for an option that a sampler or a pruner does not take."""
    for name in options:
        if name not in allowed:
            raise SpecError(f"The {what} takes no option {name!r}. {nearest_name(name, allowed)}")


def option_names(factory: Callable[..., Any]) -> list[str]:
    """Return the arguments of what makes a sampler or a pruner; none where it is written in C and shows none."""
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []


def construct(factory: Callable[..., Any], options: Mapping[str, Any], *, what: str, kind: type[_Made]) -> _Made:
    """Make a sampler or a pruner, a ``kind``, from the study file's options.

    Raises SpecError if the class or function refuses them, raises anything else, or makes something else.
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
            f"The {what} makes a {type(made).__name__}, but it must make an "
            f"optuna.{kind.__module__.split('.')[1]}.{kind.__name__}. Derive it from that class."
        )
    return made


def _make_own(
    search: SearchSpec, space: SearchSpace, *, seed: int, plan: ZoomPlan | None
) -> Callable[[int], optuna.samplers.BaseSampler]:
    """Return what makes the sampler that draws whatever a trial is not given; for a sequence, that is random search."""
    name, options, known = search.sampler, dict(search.sampler_options), known_sampler(search.sampler)
    what = f"sampler {name!r}"
    if known.options is not None:
        check_options(what, options, list(known.options))
    if name == "zoom":
        zoom = plan or zoom_plan(search)
        return lambda number: SpaceZoomSampler(space, zoom, seed=trial_seed(seed, number, "sampler"))
    if name in SAMPLERS and known.optuna_class is None:
        return lambda number: optuna.samplers.RandomSampler(seed=trial_seed(seed, number, "sampler"))

    if known.extra is not None and importlib.util.find_spec(known.extra[0]) is None:
        package, extra = known.extra
        raise SpecError(f"The {what} needs {package}. Install it with: pip install 'optuna-caviar[{extra}]'")
    distributions = space.distributions().values()
    n_ranges = sum(not isinstance(distribution, CategoricalDistribution) for distribution in distributions)
    if n_ranges < known.min_ranges:
        raise SpecError(
            f"The {what} needs at least {known.min_ranges} parameters with a range, but the space has {n_ranges}. "
            "Use tpe or random."
        )
    stock = known.optuna_class
    sampler_class = getattr(optuna.samplers, stock) if stock else import_callable(name, what="search.sampler")
    arguments = option_names(sampler_class)
    check_options(what, options, [argument for argument in arguments if argument != "seed"])
    for option, value in options.items():
        if isinstance(value, int) and abs(value) > _MAX_OPTION:
            raise SpecError(f"search.sampler_options.{option} must be at most {_MAX_OPTION}, but got {value}.")

    def make(number: int) -> optuna.samplers.BaseSampler:
        seeded: dict[str, Any] = {"seed": trial_seed(seed, number, "sampler")} if "seed" in arguments else {}
        if "independent_sampler" in known.settings:
            random = optuna.samplers.RandomSampler(seed=trial_seed(seed, number, "independent sampler"))
            seeded |= {"independent_sampler": random}
        kind = optuna.samplers.BaseSampler
        return construct(sampler_class, {**known.settings, **options, **seeded}, what=what, kind=kind)  # type: ignore[type-abstract]  # isinstance takes it

    first = make(0)  # a wrong option must be refused before any work starts
    for theirs, (ours, how) in _SEQUENCES_OF_OPTUNA.items():
        if isinstance(first, theirs):
            raise SpecError(
                f"search.sampler {name!r} walks a sequence, and several workers, or a resumed study, would lose its "
                f"place in it. Use sampler = {ours!r}, with {how}: trial n takes its point n, whichever worker runs it."
            )
    return make


def _make_point(search: SearchSpec, space: SearchSpace, *, seed: int) -> Callable[[int], dict[str, Any]] | None:
    """Return the sequence of points that a sampler walks, or None if it walks none."""
    options, distributions = search.sampler_options, space.distributions()
    if search.sampler == "grid":
        points = options.get("points", _GRID_POINTS)
        if not isinstance(points, int) or isinstance(points, bool) or points < 1:
            raise SpecError(f"search.sampler_options.points must be a whole number of at least 1, but got {points!r}.")
        grid = GridSequence(distributions, points=points, seed=seed)
        if search.trials > len(grid):
            raise SpecError(
                f"The grid has {len(grid)} points ({points} for each range), fewer than the {search.trials} trials "
                "asked for. Lower search.trials, or raise points in search.sampler_options."
            )
        return grid.point
    if search.sampler == "qmc":
        engine = options.get("qmc_type", "sobol")
        if engine not in ("sobol", "halton"):
            raise SpecError(f"No qmc_type is called {engine!r}. {nearest_name(str(engine), ('sobol', 'halton'))}")
        return lambda index: quasi_random_point(distributions, index, seed=seed, engine=engine)
    return None
