"""What a comparison of samplers says: as one value, as JSON, as a page and as lines."""

import dataclasses
import datetime
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import StudySpec
from .comparison import (
    SIGNIFICANCE,
    Search,
    best_so_far,
    distinct_values,
    most_important,
    paired_test,
    repeats_needed,
    smallest_p,
    spread,
    within_budget,
)
from .page import figures_as_data, render_page
from .rows import drawn_parameters
from .words import aligned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison of samplers says. Every value is one that JSON has.

    Attributes:
        made_at: UTC, ISO 8601.
        data: The data set and its splits, in words.
        budget_epochs: Epochs that each search may spend; ``epochs`` are one whole training's.
        baseline: The sampler that the others are paired with.
        samplers: For each sampler ``sampler``, ``finals`` by repeat, their ``median``, ``worst`` and ``best``,
            ``wins``, ``losses``, ``pairs``, ``p``, ``trials`` and ``epochs`` spent by repeat, ``band``, ``distinct``
            (hyperparameter → values tried, median of the repeats) and ``studies``, the study of each repeat in a list.
        important: The hyperparameters of the picture, the course's lower tiers first; at most two.
        sentences: What follows, in words.
        figures: Plotly figures by name.
    """

    study: str
    made_at: str
    data: str
    metric: str
    direction: str
    budget_epochs: int
    epochs: int
    repeats: int
    baseline: str
    samplers: Sequence[Mapping[str, Any]]
    important: Sequence[str]
    sentences: Sequence[str]
    figures: Mapping[str, Any]


def build_comparison(
    spec: StudySpec, searches: Sequence[Search], *, budget_epochs: int, data: str, now: datetime.datetime
) -> Comparison:
    """Return what searches of the same cost say of their samplers.

    There is one for each sampler and repeat, samplers in the order in which they are shown. ``data`` and
    ``budget_epochs`` are as ``Comparison`` has them; ``now`` has a time zone.
    """
    from .comparison_figures import comparison_figures  # loads plotly

    by_sampler: dict[str, list[Search]] = {search.sampler: [] for search in searches}
    for search in sorted(searches, key=lambda search: search.repeat):
        by_sampler[search.sampler].append(search)
    baseline = "random" if "random" in by_sampler else searches[0].sampler
    parameters = drawn_parameters(spec.space)
    important = most_important(parameters)
    names = [parameter.name for parameter in parameters]
    entries = [
        _sampler_entry(found, by_sampler[baseline], names, spec=spec, budget_epochs=budget_epochs)
        for found in by_sampler.values()
    ]
    pair = [name for name in ("grid", "random") if name in by_sampler]
    side_by_side = [(name, within_budget(by_sampler[name][0].trials, budget_epochs)) for name in pair]
    figures = comparison_figures(entries, side_by_side, important, metric=spec.objective.metric)
    return Comparison(
        study=spec.name,
        made_at=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        data=data,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        budget_epochs=budget_epochs,
        epochs=spec.objective.epochs,
        repeats=len(by_sampler[baseline]),
        baseline=baseline,
        samplers=entries,
        important=[parameter.name for parameter in important],
        sentences=_sentences(entries, [p.name for p in important], baseline, repeats=len(by_sampler[baseline])),
        figures=figures_as_data(figures),
    )


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as one page that needs no network."""
    return render_page("comparison.html", comparison.figures, comparison=comparison, cells=_cells)


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the comparison in words: a table with a line for each sampler, and a line for each finding."""
    rows = [["sampler", "median best", "worst to best", f"won against {comparison.baseline}", "p", "distinct values"]]
    for entry in comparison.samplers:
        distinct = ", ".join(f"{name} {entry['distinct'][name]:g}" for name in comparison.important)
        rows.append([*_cells(entry, comparison.baseline), distinct or "–"])
    table = [line.rstrip() for line in aligned(rows)]
    title = f"{comparison.study}: best {comparison.metric} after {comparison.budget_epochs} epochs"
    return [f"{title}, {_repeats(comparison.repeats)}", *table, *comparison.sentences]


def _sampler_entry(
    searches: Sequence[Search], baseline: Sequence[Search], names: Sequence[str], *, spec: StudySpec, budget_epochs: int
) -> dict[str, Any]:
    """Return a sampler's entry of ``Comparison.samplers``; its searches are paired with the baseline's by repeat."""
    maximize = spec.objective.direction == "maximize"
    best = functools.partial(best_so_far, budget_epochs=budget_epochs, maximize=maximize)
    curves = [best(search.trials) for search in searches]
    finals = [curve.final for curve in curves]
    known = sorted((value for value in finals if value is not None), reverse=not maximize)
    test = paired_test(finals, [best(search.trials).final for search in baseline], maximize=maximize)
    counted = [within_budget(search.trials, budget_epochs) for search in searches]
    distinct = [distinct_values(trials, names) for trials in counted]
    return {
        "sampler": searches[0].sampler,
        "finals": finals,
        "median": statistics.median(known) if known else None,
        "worst": known[0] if known else None,
        "best": known[-1] if known else None,
        "wins": test.wins,
        "losses": test.losses,
        "pairs": test.n,
        "p": test.p,
        "trials": [len(trials) for trials in counted],
        "epochs": [sum(trial.epochs for trial in trials) for trials in counted],
        "band": spread(curves, budget_epochs=budget_epochs),
        "distinct": {name: statistics.median(counts[name] for counts in distinct) for name in names},
        "studies": [[search.study] for search in searches],
    }


def _sentences(
    samplers: Sequence[Mapping[str, Any]], important: Sequence[str], baseline: str, *, repeats: int
) -> list[str]:
    """Return in words what a comparison says, and what it cannot say."""
    said = []
    entries = {entry["sampler"]: entry for entry in samplers}
    if {"grid", "random"} <= set(entries) and important:
        grid, random = entries["grid"], entries["random"]
        counts = " and ".join(f"{grid['distinct'][name]:g} values of {name}" for name in important)
        more = " and ".join(f"{random['distinct'][name]:g}" for name in important)
        n_grid, n_random = (statistics.median(entry["trials"]) for entry in (grid, random))
        said.append(f"The grid tried {counts} in {n_grid:g} trials, random search {more} in {n_random:g}.")
    if repeats < (needed := repeats_needed()):
        p = f"even winning them all has p = {smallest_p(repeats):.2g}"
        advice = f"Use {needed}: --repeats {needed} adds to these."
        return [*said, f"{_repeats(repeats)} cannot show a difference: {p}. {advice}"]
    others = {name: entry for name, entry in entries.items() if name != baseline}
    for name, entry in others.items():
        how = "better" if entry["wins"] > entry["losses"] else "worse"
        if entry["p"] is None or entry["p"] >= SIGNIFICANCE:
            said.append(f"{name}: no difference from {baseline} beyond chance.")
        else:
            said.append(f"{name} is {how} than {baseline}, p = {entry['p']:.2g}.")
    if len(others) > 1:
        said.append(f"Each p is for its own pair, not corrected for the {len(others)} comparisons.")
    return said


def _cells(entry: Mapping[str, Any], baseline: str) -> list[str]:
    """Return a sampler's name, median, worst to best, pairs won and p, as tables show them."""
    cells = [entry["sampler"], "–", "–", "–", "–"]
    if entry["median"] is not None:
        cells[1:3] = [f"{entry['median']:.4f}", f"{entry['worst']:.4f} to {entry['best']:.4f}"]
    if entry["sampler"] != baseline:
        ties = entry["pairs"] - entry["wins"] - entry["losses"]
        cells[3] = f"{entry['wins']} of {entry['pairs']}" + (f", {ties} equal" if ties else "")
        if entry["p"] is not None:
            cells[4] = f"{entry['p']:.2g}"
    return cells


def _repeats(n: int) -> str:
    return f"{n} repeat{'s' if n > 1 else ''}"
