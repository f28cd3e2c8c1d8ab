"""The report on a study: everything that its trials say, as one value, and as one page that opens anywhere."""

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from ..attributes import DATA
from ..config import NetworkConfig, TrainingConfig
from ..parameters import ChoiceParameter, Parameter
from ..search.warm_start import configurations_by_trial, warm_start_of
from ..spec import StudySpec
from ..storage.studies import n_former_stages
from .advice import next_steps
from .approach import panda_or_caviar
from .axes import drawn_parameters, shown
from .cost import duration, measure_cost
from .guessing import guess_of
from .importance import Importance, measure_importance
from .lineage import Member
from .rows import TrialRow, best_rows, trial_rows
from .stages import with_stages
from .tiers import compare_with_tiers, tier_sentences
from .warm_start import warm_start_sentences, warm_start_table

_N_TOP = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a study's trials say. Every value is one that JSON has; numbers are in the units that their names end in.

    Attributes:
        study: Its name.
        made_at: When the report was made, UTC, ISO 8601.
        data: The data set and its splits, in words.
        metric: What was optimised.
        direction: ``maximize`` or ``minimize``.
        settings: Sampler, pruner, epochs, seed and the like, by their keys in the study file.
        searched: Of every hyperparameter that was drawn ``name``, ``tier``, ``range``, ``scale`` and ``best`` value.
        fixed: Hyperparameters that every trial shares.
        counts: Trials by state.
        budget: Trials that were to be finished.
        trials: Every trial: ``number``, ``state``, ``value``, ``best_epoch``, ``epochs``, ``seconds``, ``curve``, …
        top: The best complete trials from the best on, like ``trials``.
        importance: ``parameters``, ``reason``, ``n_trials``, ``n_pruned``, ``best_fraction``, ``comparisons`` with the
            course's tiers, and ``sentences`` that say them.
        zooms: The studies of a search from coarse to fine, and the stages within this one, or none.
        warm_start: What it took over from another study, as ``warm_start_table`` has it, with ``sentences`` and, of
            each configuration, ``value_here``, what it came to in this study; None for a cold start.
        cost: As ``cost.Cost``.
        approach: ``panda`` or ``caviar``, or None before the first complete trial.
        approach_reason: Why.
        advice: What to try next: ``title``, ``evidence``, ``change`` of the study file.
        figures: Plotly figures by name; those that would show nothing are left out.
    """

    study: str
    made_at: str
    data: str
    metric: str
    direction: str
    settings: Mapping[str, Any]
    searched: Sequence[Mapping[str, Any]]
    fixed: Mapping[str, Any]
    counts: Mapping[str, int]
    budget: int
    trials: Sequence[Mapping[str, Any]]
    top: Sequence[Mapping[str, Any]]
    importance: Mapping[str, Any]
    zooms: Sequence[Mapping[str, Any]]
    warm_start: Mapping[str, Any] | None
    cost: Mapping[str, Any]
    approach: str | None
    approach_reason: str
    advice: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Any]


def build_report(
    study: optuna.Study,
    spec: StudySpec,
    *,
    lineage: Sequence[Member] = (),
    cores: int,
    now: datetime.datetime,
    n_resamples: int | None = None,
) -> Report:
    """Look a study over and return what it says; nothing is written.

    Args:
        study: In any state, with no trials even.
        spec: The study file that it was run from.
        lineage: Its zooms, as ``lineage.read_lineage`` gives them.
        cores: Of the machine that would run the next search.
        now: The present, with its time zone.
        n_resamples: Of the trials, for the uncertainty of the importance; None leaves it to ``measure_importance``.
    """
    metric = spec.objective.metric
    trials = study.get_trials(deepcopy=False)
    members = with_stages(tuple(lineage), study, spec)
    parameters = drawn_parameters(spec.space)
    rows = trial_rows(trials, parameters, metric=metric)
    best = best_rows(rows, metric=metric)
    importance = measure_importance(trials, parameters, metric=metric, seed=spec.seed, n_resamples=n_resamples)
    cost = measure_cost(rows, epochs=spec.objective.epochs)
    data = str(study.user_attrs.get(DATA, spec.data.dataset))
    approach, reason = _approach(cost.full_trial_s, spec, cores=cores)
    guess = guess_of(study.user_attrs, data=data)
    advice = next_steps(spec, rows, parameters, importance, guess=guess)
    counts = Counter(row.state for row in rows)
    return Report(
        study=study.study_name,
        made_at=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        data=data,
        metric=metric,
        direction=spec.objective.direction,
        settings=_settings(study, spec),
        searched=[_searched(parameter, best) for parameter in parameters],
        fixed=_fixed(spec),
        counts={state: counts[state] for state in ("complete", "pruned", "failed", "running", "waiting")},
        budget=spec.search.trials,
        trials=[_trial(row) for row in rows],
        top=[_trial(row) for row in best[:_N_TOP]],
        importance=_importance(importance, sampler=spec.search.sampler),
        zooms=[_zoom(member) for member in members],
        warm_start=_warm_start(study, spec, rows),
        cost=dataclasses.asdict(cost),
        approach=approach,
        approach_reason=reason,
        advice=[dataclasses.asdict(step) for step in advice],
        figures=_figures(study, rows, parameters, importance=importance, lineage=members, metric=metric),
    )


def report_json(report: Report) -> str:
    """Return the report as JSON, its keys the attributes' names."""
    return json.dumps(dataclasses.asdict(report), ensure_ascii=False, allow_nan=False)


def render_html(report: Report) -> str:
    """Return the report as one page, plotly's script included, that asks nothing of any network."""
    return render_page("report.html", report.figures, report=report)


def render_page(template: str, figures: Mapping[str, Any], **values: Any) -> str:
    """Return a page made of a template of this package, plotly's script included, that asks nothing of any network.

    Args:
        template: Its file's name; it includes ``page.css`` and ``figures.html``.
        figures: Plotly figures by the name that ``data-figure`` gives them.
        values: What the template says.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    from .style import COLOURS

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "duration": duration}
    # In a script element only `<` could end it: as \u003c it is the same JSON.
    figures_json = json.dumps(figures, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template(template).render(
        colours=COLOURS, plotly_js=get_plotlyjs(), figures_json=figures_json, **values
    )


def _approach(trial_s: float | None, spec: StudySpec, *, cores: int) -> tuple[str | None, str]:
    if not trial_s:
        return None, "No trial has been trained to its end yet, so nothing can be said."
    return panda_or_caviar(trial_s, spec.search.trials, cores=cores)


def _settings(study: optuna.Study, spec: StudySpec) -> dict[str, Any]:
    settings = {
        "data.dataset": spec.data.dataset,
        "data.validation_fraction": spec.data.validation_fraction,
        "objective.metric": spec.objective.metric,
        "objective.epochs": spec.objective.epochs,
        "objective.network": spec.objective.network,
        "search.sampler": spec.search.sampler,
        "search.sampler_options": dict(spec.search.sampler_options) or None,
        "search.pruner": spec.search.pruner,
        "search.pruner_options": dict(spec.search.pruner_options) or None,
        "search.workers": spec.search.workers,
        "search.stages": f"{n_stages}, no longer run" if (n_stages := n_former_stages(study)) else None,
        "seed": spec.seed,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _fixed(spec: StudySpec) -> dict[str, Any]:
    """Return what is fixed in the study file and, of the configurable network, by default."""
    drawn = {parameter.name for parameter in spec.space.parameters}
    configs = (NetworkConfig(), TrainingConfig(epochs=spec.objective.epochs))
    defaults = {name: value for config in configs for name, value in dataclasses.asdict(config).items()}
    fixed = {**({} if spec.objective.network else defaults), **spec.space.fixed}
    return {name: value for name, value in fixed.items() if name not in drawn and name != "epochs"}


def _searched(parameter: Parameter, best: Sequence[TrialRow]) -> dict[str, Any]:
    if isinstance(parameter, ChoiceParameter):
        span, scale = ", ".join(shown(choice) for choice in parameter.choices), "choices"
    else:
        span, scale = f"{shown(parameter.low)} to {shown(parameter.high)}", parameter.scale
    value = best[0].hyperparameters.get(parameter.name) if best else None
    return {"name": parameter.name, "tier": parameter.tier, "range": span, "scale": scale, "best": value}


def _trial(row: TrialRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.state,
        "value": row.value,
        "best_epoch": row.best_epoch,
        "epochs": len(row.curve),
        "seconds": row.seconds,
        "diverged": row.diverged,
        "hyperparameters": dict(row.hyperparameters),
        "fail_reason": row.fail_reason,
        "curve": list(row.curve),
        "inherited": row.inherited,
    }


def _importance(importance: Importance, *, sampler: str) -> dict[str, Any]:
    return {
        "parameters": [dataclasses.asdict(parameter) for parameter in importance.parameters],
        "reason": importance.reason,
        "n_trials": importance.n_trials,
        "n_pruned": importance.n_pruned,
        "best_fraction": importance.best_fraction,
        "comparisons": [dataclasses.asdict(comparison) for comparison in compare_with_tiers(importance)],
        "sentences": tier_sentences(importance, sampler=sampler),
    }


def _warm_start(study: optuna.Study, spec: StudySpec, rows: Sequence[TrialRow]) -> dict[str, Any] | None:
    warm = warm_start_of(study)
    table = warm_start_table(warm, spec.space)
    if warm is None or table is None:
        return None
    taken = configurations_by_trial(warm, study.get_trials(deepcopy=False))
    values = {row.number: row.value for row in rows}
    here = {(c.study, c.trial): values.get(number) for number, c in taken.items()}
    for configuration in table["configurations"]:
        configuration["value_here"] = here.get((configuration["study"], configuration["trial"]))
    return {**table, "sentences": warm_start_sentences(table)}


def _zoom(member: Member) -> dict[str, Any]:
    ranges = {parameter.name: _searched(parameter, ())["range"] for parameter in member.parameters}
    return {
        "name": member.name,
        "generation": member.generation,
        "is_current": member.is_current,
        "n_trials": member.n_trials,
        "n_copied": member.n_copied,
        "best_value": member.best_value,
        "ranges": ranges,
    }


def _figures(
    study: optuna.Study,
    rows: Sequence[TrialRow],
    parameters: Sequence[Parameter],
    *,
    importance: Importance,
    lineage: Sequence[Member],
    metric: str,
) -> dict[str, Any]:
    from . import figures

    made: dict[str, Any] = {}
    valued = [row for row in rows if row.is_finished and row.value is not None]
    best = next(iter(best_rows(rows, metric=metric)), None)
    if valued:
        made["history"] = figures.history_figure(rows, metric=metric)
        made["curves"] = figures.curves_figure(rows, best, metric=metric)
        made["parallel"] = figures.parallel_figure(rows, parameters, best, metric=metric)
        made["slices"] = figures.slices_figure(rows, parameters, best, metric=metric)
        made["timeline"] = figures.timeline_figure(study)
    if best is not None:
        made["fit"] = figures.fit_figure(best, metric=metric)
    if importance.reason is None:
        made["importance"] = figures.importance_figure(importance)
    if lineage:
        made["search"] = figures.search_figure(lineage, metric=metric)
        made["zooms"] = figures.zooms_figure(lineage)
    return {name: json.loads(figure.to_json()) for name, figure in made.items() if figure is not None}
