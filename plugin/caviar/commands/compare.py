"""Samplers compared on a study file: equal budgets in epochs, several seeds, each search an ordinary study.

A comparison keeps no state of its own: its studies, named after the sampler and the repeat, tell what is done.
"""

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

from ..attributes import DATA
from ..errors import SpecError, nearest_name
from ..insight.comparison import PaidTrial, Search
from ..insight.comparison_report import Comparison, build_comparison, comparison_lines, render_comparison
from ..insight.page import as_json
from ..insight.rows import drawn_parameters, drawn_values
from ..sampler_table import SAMPLERS
from ..search.sequences import GridSequence
from ..spec import StudySpec, parse_spec, spec_table
from ..storage.database import creation_lock, database_exists, new_owner, open_storage
from ..storage.home import Home, prepare_home
from ..storage.opening import open_existing
from ..storage.places import Place
from .epoch_budget import read_trials, spend_on_study
from .family import archive_family
from .report import write_report_file
from .run import OnProgress, check_runnable

_REPEATS = 5
_GRID_POINTS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What a comparison runs, checked before any work: the sampler, repeat and study file of each search.

    ``budget_epochs`` is what each may spend, ``grid_size`` how many points a grid has; None without one.
    """

    spec: StudySpec
    budget_epochs: int
    searches: tuple[tuple[str, int, StudySpec], ...]
    grid_size: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenComparison:
    """A comparison, None if a signal ended it before its budgets were spent, and its files: a page, and data."""

    comparison: Comparison | None
    html: Place
    json: Place


def compare_samplers(
    plan: ComparisonPlan, home: Home, *, fresh: bool, on_progress: OnProgress, say: Callable[[str], None]
) -> WrittenComparison:
    """Run every search of a comparison until its budget is spent, and write what they say.

    Nothing that is done is done again: the same call resumes an interrupted comparison, and one with more samplers,
    repeats or epochs adds to it. If ``fresh``, the studies of an earlier comparison are archived first. ``say`` is
    called with each line that is worth telling before the searches.

    Raises:
        CaviarError: If a study file, the data, the home or the storage is not fit to run.
    """
    for line in plan_lines(plan):
        say(line)
    if fresh and (archived := archive_comparison(plan, home)):
        say(f"{len(archived)} studies of the earlier comparison were renamed, such as {archived[0]}.")
    html, data = home.report_files(f"{plan.spec.name}-compare")
    searches, parameters = [], drawn_parameters(plan.spec.space)
    for sampler, repeat, spec in plan.searches:
        most = plan.grid_size if sampler == "grid" else None
        spending = spend_on_study(spec, home, budget_epochs=plan.budget_epochs, most=most, on_progress=on_progress)
        if spending.interrupted:
            return WrittenComparison(comparison=None, html=html, json=data)
        trials = tuple(
            PaidTrial(
                epochs=len(trial.intermediate_values),
                value=trial.value if trial.state.name == "COMPLETE" else None,
                hyperparameters=drawn_values(trial, parameters),
            )
            for trial in read_trials(home, spending.study, uid=spending.uid)
        )
        searches.append(Search(sampler=sampler, repeat=repeat, study=spending.study, trials=trials))
    prepare_home(home)
    _, study = open_existing(home, searches[0].study)
    words, now = str(study.user_attrs.get(DATA, plan.spec.data.dataset)), datetime.datetime.now(datetime.UTC)
    comparison = build_comparison(plan.spec, searches, budget_epochs=plan.budget_epochs, data=words, now=now)
    write_report_file(html, render_comparison(comparison))
    write_report_file(data, as_json(comparison))
    return WrittenComparison(comparison=comparison, html=html, json=data)


def archive_comparison(plan: ComparisonPlan, home: Home) -> list[str]:
    """Rename the studies of an earlier comparison, and their zooms, to make way for new ones; return the new names."""
    if not database_exists(home.storage):
        return []
    storage = open_storage(home.storage, owner=new_owner())
    with creation_lock(storage):
        return [name for *_, spec in plan.searches if (name := archive_family(storage, home, spec.name)) is not None]


def plan_comparison(
    spec: StudySpec, samplers: Sequence[str], *, budget_epochs: int | None = None, repeats: int | None = None
) -> ComparisonPlan:
    """Check what the user asked for, and return what a comparison runs.

    The study file's options apply to its own sampler alone, and its time limit is ignored. Each search may spend
    ``budget_epochs``, by default a quarter of what the study file may. There are 5 ``repeats`` by default.

    Raises:
        SpecError: Naming what is not allowed.
    """
    for name in samplers:
        if name not in SAMPLERS:
            raise SpecError(f"No sampler is called {name!r}. {nearest_name(name, SAMPLERS)}")
    if len(samplers) < 2 or len(set(samplers)) < len(samplers):
        raise SpecError(f"--samplers needs two or more different samplers, but got {','.join(samplers) or 'none'!r}.")
    n_repeats = _REPEATS if repeats is None else repeats
    if n_repeats < 1:
        raise SpecError(f"--repeats must be at least 1, but got {n_repeats}.")
    epochs = spec.objective.epochs
    budget = default_budget(spec) if budget_epochs is None else budget_epochs
    if budget < epochs:
        raise SpecError(
            f"--budget-epochs must be at least one whole training, {epochs} epochs in this study file, but got "
            f"{budget}."
        )
    points, size = _grid_points(spec, budget) if "grid" in samplers else (None, None)
    searches = [
        (name, repeat, _search_spec(spec, name, repeat, trials=budget // epochs, grid=(points, size)))
        for repeat in range(n_repeats)
        for name in samplers
    ]
    for _, _, one in searches[: len(samplers)]:
        check_runnable(one)
    return ComparisonPlan(spec=spec, budget_epochs=budget, searches=tuple(searches), grid_size=size)


def default_budget(spec: StudySpec) -> int:
    """Return a quarter of the epochs that a study file's trials may spend, but at least one training."""
    return max(spec.search.trials * spec.objective.epochs // 4, spec.objective.epochs)


def plan_lines(plan: ComparisonPlan) -> list[str]:
    """Return in words what a comparison is about to do."""
    samplers, budget = dict.fromkeys(sampler for sampler, _, _ in plan.searches), plan.budget_epochs
    n, n_whole = len(plan.searches), budget // plan.spec.objective.epochs
    trainings = f"{n_whole} whole training{'s' if n_whole > 1 else ''}"
    lines = [f"{plan.spec.name}: {', '.join(samplers)}; {budget} epochs ({trainings}) for each of {n} searches"]
    if plan.grid_size is not None and plan.grid_size < n_whole:
        lines.append(f"The space is too small for this budget: the grid ends after its {plan.grid_size} points.")
    return lines


def written_lines(written: WrittenComparison) -> list[str]:
    """Return a comparison's findings in words, and where it is."""
    if written.comparison is None:
        return ["Interrupted. What is done is kept, and the same command resumes it."]
    return [*comparison_lines(written.comparison), f"report {written.html}; as data: {written.json.name}"]


def comparison_summary(written: WrittenComparison) -> dict[str, Any]:
    """Return what ``caviar compare --json`` prints: where the report is, and everything it says except the pictures."""
    said = {} if written.comparison is None else dataclasses.asdict(written.comparison)
    said.pop("figures", None)
    return {**said, "interrupted": written.comparison is None, "html": str(written.html), "json": str(written.json)}


def _search_spec(
    spec: StudySpec, sampler: str, repeat: int, *, trials: int, grid: tuple[int | None, int | None]
) -> StudySpec:
    """Return the study file of one search, whose seed is the file's plus the repeat."""
    options = dict(spec.search.sampler_options) if sampler == spec.search.sampler else {}
    points, size = grid
    if sampler == "grid":
        options, trials = {"points": points}, min(trials, size or trials)
    search = dataclasses.replace(spec.search, trials=trials, sampler=sampler, sampler_options=options, timeout_s=None)
    seed = (spec.seed + repeat) % 2**32
    word = "zooming" if sampler == "zoom" else sampler  # NAME-zoom-1 is what a zoom of NAME is called
    made = dataclasses.replace(spec, name=f"{spec.name}-compare-{word}-{repeat}", seed=seed, search=search)
    return parse_spec(spec_table(made))


def _grid_points(spec: StudySpec, budget_epochs: int) -> tuple[int, int]:
    """Return the points of each range, and of the whole grid: five per range, or as many more as the budget may need.

    If trials are pruned, each may take only one epoch.
    """
    own = spec.search.sampler_options.get("points") if spec.search.sampler == "grid" else None
    distributions = spec.space.distributions()
    needed = budget_epochs // (spec.objective.epochs if spec.search.pruner == "none" else 1)
    points = own if isinstance(own, int) and own > 0 else _GRID_POINTS
    size = len(GridSequence(distributions, points=points, seed=0))
    while size < needed and own is None:
        larger = len(GridSequence(distributions, points=points + 1, seed=0))
        if larger == size and points >= needed:
            break
        points, size = points + 1, larger
    return points, size
