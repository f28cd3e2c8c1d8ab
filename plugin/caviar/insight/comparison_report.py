"""What a comparison of samplers says: as one value, as JSON, as a page and as lines."""

import dataclasses
import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import StudySpec
from .axes import drawn_parameters
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
from .report import render_page


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison says. Every value is one that JSON has.

    Attributes:
        study: The study file's name.
        made_at: UTC, ISO 8601.
        data: The data set and its splits, in words.
        metric: What was optimised.
        direction: ``maximize`` or ``minimize``.
        budget_epochs: Epochs that each search may spend.
        epochs: Of one whole training.
        repeats: Seeds.
        baseline: The sampler that the others are paired with.
        samplers: For each sampler ``sampler``, ``finals`` by repeat, ``median``, ``worst`` and
            ``best`` repeat's, ``wins``, ``losses``, ``pairs``, ``p``, ``trials`` and ``epochs`` spent by repeat,
            ``band``, ``distinct`` (hyperparameter → values tried, median of the repeats) and ``studies``.
        important: The hyperparameters of the picture, the course's lower tiers first; two, one or none.
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

    Args:
        spec: The study file that was compared on.
        searches: Of each sampler one a repeat; samplers in the order in which they are shown.
        budget_epochs: Of each search, at least one training.
        data: The data set and its splits, in words.
        now: The present, with its time zone.
    """
    by_sampler: dict[str, list[Search]] = {}
    for search in sorted(searches, key=lambda search: search.repeat):
        by_sampler.setdefault(search.sampler, []).append(search)
    names = list(dict.fromkeys(search.sampler for search in searches))
    baseline = "random" if "random" in names else names[0]
    parameters = drawn_parameters(spec.space)
    important = [parameter.name for parameter in most_important(parameters)]
    entries = [
        _sampler_entry(
            by_sampler[name],
            by_sampler[baseline],
            [parameter.name for parameter in parameters],
            budget_epochs=budget_epochs,
            maximize=spec.objective.direction == "maximize",
        )
        for name in names
    ]
    repeats = len(by_sampler[baseline])
    return Comparison(
        study=spec.name,
        made_at=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        data=data,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        budget_epochs=budget_epochs,
        epochs=spec.objective.epochs,
        repeats=repeats,
        baseline=baseline,
        samplers=entries,
        important=important,
        sentences=_sentences(entries, important, baseline=baseline, repeats=repeats),
        figures=_figures(spec, entries, by_sampler, budget_epochs=budget_epochs),
    )


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as JSON, its keys the attributes' names."""
    return json.dumps(dataclasses.asdict(comparison), ensure_ascii=False, allow_nan=False)


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as one page that asks nothing of any network."""
    return render_page(
        "comparison.html", comparison.figures, comparison=comparison, range_shown=_range, wins_shown=_wins, p_shown=_p
    )


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the comparison in words, a line a sampler and a line a finding."""
    metric, baseline, n = comparison.metric, comparison.baseline, comparison.repeats
    head = ["sampler", "median best", "worst to best", f"won against {baseline}", "p", "distinct values"]
    rows = [head, *(_row(entry, comparison.important, baseline=baseline) for entry in comparison.samplers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    repeats = f"{n} repeat{'s' if n > 1 else ''}"
    title = f"{comparison.study}: best {metric} after {comparison.budget_epochs} epochs, {repeats}"
    return [title, *table, *comparison.sentences]


def _sampler_entry(
    searches: Sequence[Search],
    baseline: Sequence[Search],
    names: Sequence[str],
    *,
    budget_epochs: int,
    maximize: bool,
) -> dict[str, Any]:
    """Return a sampler's entry of ``Comparison.samplers``.

    Args:
        searches: The sampler's, by repeat, at least one.
        baseline: Those that it is paired with, by repeat.
        names: The hyperparameters that are searched.
        budget_epochs: Of each search.
        maximize: Whether larger is better.
    """
    curves = [best_so_far(s.trials, budget_epochs=budget_epochs, maximize=maximize) for s in searches]
    others = [best_so_far(s.trials, budget_epochs=budget_epochs, maximize=maximize) for s in baseline]
    finals = [curve.final for curve in curves]
    known = sorted(value for value in finals if value is not None)
    test = paired_test(finals, [curve.final for curve in others], maximize=maximize)
    counted = [within_budget(search.trials, budget_epochs) for search in searches]
    distinct = [distinct_values(trials, names) for trials in counted]
    band = spread(curves, budget_epochs=budget_epochs)
    return {
        "sampler": searches[0].sampler,
        "finals": finals,
        "median": statistics.median(known) if known else None,
        "worst": (known[0] if maximize else known[-1]) if known else None,
        "best": (known[-1] if maximize else known[0]) if known else None,
        "wins": test.wins,
        "losses": test.losses,
        "pairs": test.n,
        "p": test.p,
        "trials": [len(trials) for trials in counted],
        "epochs": [sum(trial.epochs for trial in trials) for trials in counted],
        "band": None if band is None else dataclasses.asdict(band),
        "distinct": {name: statistics.median(counts[name] for counts in distinct) for name in names},
        "studies": [list(search.studies) for search in searches],
    }


def _sentences(
    samplers: Sequence[Mapping[str, Any]], important: Sequence[str], *, baseline: str, repeats: int
) -> list[str]:
    """Return in words what a comparison says, and what it cannot say."""
    said = []
    pair = {entry["sampler"]: entry for entry in samplers if entry["sampler"] in ("grid", "random")}
    if len(pair) == 2 and important:
        counts = " and ".join(f"{pair['grid']['distinct'][name]:g} values of {name}" for name in important)
        more = " and ".join(f"{pair['random']['distinct'][name]:g}" for name in important)
        n_grid, n_random = (statistics.median(pair[name]["trials"]) for name in ("grid", "random"))
        said.append(f"The grid tried {counts} in {n_grid:g} trials, random search {more} in {n_random:g}.")
    others = [entry for entry in samplers if entry["sampler"] != baseline]
    if repeats < repeats_needed():
        n = f"{repeats} repeat" + ("s" if repeats > 1 else "")
        said.append(
            f"{n} can show no difference: even {repeats} of {repeats} won has p = {smallest_p(repeats):.2g}. From "
            f"{repeats_needed()} on a paired test can; --repeats {repeats_needed()} goes on with these."
        )
        return said
    for entry in others:
        if entry["p"] is None or entry["p"] >= SIGNIFICANCE:
            said.append(f"{entry['sampler']} cannot be told from {baseline}.")
        else:
            how = "better" if entry["wins"] > entry["losses"] else "worse"
            said.append(f"{entry['sampler']} is {how} than {baseline}, p = {entry['p']:.2g}.")
    if len(others) > 1:
        said.append(f"p is of each pair alone, not corrected for the {len(others)} that were looked at.")
    return said


def _row(entry: Mapping[str, Any], important: Sequence[str], *, baseline: str) -> list[str]:
    median = "–" if entry["median"] is None else f"{entry['median']:.4f}"
    distinct = ", ".join(f"{name} {entry['distinct'][name]:g}" for name in important)
    return [entry["sampler"], median, _range(entry), _wins(entry, baseline), _p(entry, baseline), distinct or "–"]


def _range(entry: Mapping[str, Any]) -> str:
    """Return the worst and the best repeat's value."""
    if entry["worst"] is None:
        return "–"
    return f"{entry['worst']:.4f} to {entry['best']:.4f}"


def _wins(entry: Mapping[str, Any], baseline: str) -> str:
    if entry["sampler"] == baseline:
        return "–"
    ties = entry["pairs"] - entry["wins"] - entry["losses"]
    tied = f", {ties} equal" if ties else ""
    return f"{entry['wins']} of {entry['pairs']}{tied}"


def _p(entry: Mapping[str, Any], baseline: str) -> str:
    return "–" if entry["p"] is None or entry["sampler"] == baseline else f"{entry['p']:.2g}"


def _figures(
    spec: StudySpec,
    entries: Sequence[Mapping[str, Any]],
    by_sampler: Mapping[str, Sequence[Search]],
    *,
    budget_epochs: int,
) -> dict[str, Any]:
    from . import comparison_figures

    metric = spec.objective.metric
    pair = [name for name in ("grid", "random") if name in by_sampler]
    made = {
        "curves": comparison_figures.curves_figure(entries, metric=metric),
        "finals": comparison_figures.finals_figure(entries, metric=metric),
        "coverage": comparison_figures.coverage_figure(
            [(name, within_budget(by_sampler[name][0].trials, budget_epochs)) for name in pair],
            most_important(drawn_parameters(spec.space)),
            order=list(by_sampler),
        ),
    }
    return {name: json.loads(figure.to_json()) for name, figure in made.items() if figure is not None}
