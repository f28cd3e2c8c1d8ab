"""The report on a study: everything that its trials say, as one value, and as one page that opens anywhere."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from ..attributes import DATA
from ..config import NetworkConfig, TrainingConfig
from ..parameters import ChoiceParameter
from ..search.warm_start import configurations_by_trial, warm_start_of
from ..spec import StudySpec, spec_table
from ..storage.studies import n_former_stages
from .advice import next_steps
from .cost import measure_cost, panda_or_caviar
from .family import Member, warm_start_sentences, warm_start_table, with_zoom_stages
from .guessing import guess_of
from .importance import Importance, judge_pairs, measure_importance, tier_sentences
from .page import figures_as_data, render_page
from .rows import STATES, TrialRow, best_rows, drawn_parameters, trial_rows
from .words import range_shown

_N_TOP = 10
_ZOOM = ("name", "generation", "is_current", "n_trials", "n_copied", "best_value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a study's trials say. Every value is one that JSON has; a number's name ends in its unit.

    Attributes:
        made_at: UTC, ISO 8601.
        data: The data set and its splits, in words.
        settings: The study file's, by their keys.
        searched: For every hyperparameter that was drawn, ``name``, ``tier``, ``range``, ``scale`` and ``best`` value.
        fixed: Hyperparameters that every trial shares.
        trials: A ``rows.TrialRow`` each, with how many ``epochs`` it reported; ``counts`` are by state.
        top: The best complete trials, best first, like ``trials``.
        importance: An ``Importance`` with ``comparisons`` with the course's tiers (``RankedPair``) and ``sentences``.
        zooms: The studies of a search from coarse to fine, and this study's zoom stages; empty without any.
        warm_start: As ``warm_start_table`` returns it, with ``sentences`` and, for each configuration, ``value_here``,
            what it reached in this study. None for a cold start.
        approach: ``panda`` or ``caviar``, or None before the first complete trial.
        advice: What to try next, each an ``advice.Advice``; ``cost`` is a ``cost.Cost``.
        figures: Plotly figures by name, without those that would show nothing.
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
    family: Sequence[Member] = (),
    cores: int,
    now: datetime.datetime,
    n_resamples: int | None = None,
) -> Report:
    """Read a study, in any state, and return what it says; nothing is written.

    ``family`` is as ``family_members`` returns it, ``cores`` are those of the machine that would run the next search,
    ``now`` has a time zone, and ``n_resamples`` is as ``measure_importance`` takes it.
    """
    from .figures import report_figures  # loads plotly

    metric = spec.objective.metric
    trials = study.get_trials(deepcopy=False)
    members = with_zoom_stages(family, study, spec)
    parameters = drawn_parameters(spec.space)
    rows = trial_rows(trials, parameters, metric=metric)
    best = best_rows(rows, metric=metric)
    importance = measure_importance(trials, parameters, metric=metric, seed=spec.seed, n_resamples=n_resamples)
    cost = measure_cost(rows, epochs=spec.objective.epochs)
    data = str(study.user_attrs.get(DATA, spec.data.dataset))
    approach, reason = None, "No trial has been trained to its end yet, so it is too early to say."
    if cost.full_trial_s:
        approach, reason = panda_or_caviar(cost.full_trial_s, spec.search.trials, cores=cores)
    advice = next_steps(spec, rows, parameters, importance, guess=guess_of(study.user_attrs, data=data))
    figures = report_figures(study, rows, parameters, importance=importance, members=members, metric=metric)
    return Report(
        study=study.study_name,
        made_at=now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        data=data,
        metric=metric,
        direction=spec.objective.direction,
        settings=_settings(study, spec),
        searched=[
            {
                "name": parameter.name,
                "tier": parameter.tier,
                "range": range_shown(parameter),
                "scale": "choices" if isinstance(parameter, ChoiceParameter) else parameter.scale,
                "best": best[0].hyperparameters.get(parameter.name) if best else None,
            }
            for parameter in parameters
        ],
        fixed=_fixed(spec),
        counts={state: sum(row.state == state for row in rows) for state in STATES},
        budget=spec.search.trials,
        trials=[_trial(row) for row in rows],
        top=[_trial(row) for row in best[:_N_TOP]],
        importance=_importance(importance, sampler=spec.search.sampler),
        zooms=[
            {
                **{name: getattr(member, name) for name in _ZOOM},
                "ranges": {parameter.name: range_shown(parameter) for parameter in member.parameters},
            }
            for member in members
        ],
        warm_start=_warm_start(study, spec, rows),
        cost=dataclasses.asdict(cost),
        approach=approach,
        approach_reason=reason,
        advice=[dataclasses.asdict(step) for step in advice],
        figures=figures_as_data(figures),
    )


def render_html(report: Report) -> str:
    """Return the report as one page that contains plotly's script and needs no network."""
    return render_page("report.html", report.figures, report=report)


def _settings(study: optuna.Study, spec: StudySpec) -> dict[str, Any]:
    table, settings = spec_table(spec), dict[str, Any]()
    for part in ("data", "objective", "search"):
        settings |= {f"{part}.{key}": value for key, value in table[part].items() if value not in ({}, ())}
    if n_stages := n_former_stages(study):
        settings["search.stages"] = f"{n_stages}, no longer run"
    return {**settings, "seed": spec.seed}


def _fixed(spec: StudySpec) -> dict[str, Any]:
    """Return what is fixed in the study file and, of the configurable network, by default."""
    drawn = {parameter.name for parameter in spec.space.parameters}
    configs = (NetworkConfig(), TrainingConfig(epochs=spec.objective.epochs))
    defaults = {name: value for config in configs for name, value in dataclasses.asdict(config).items()}
    fixed = {**({} if spec.objective.network else defaults), **spec.space.fixed}
    return {name: value for name, value in fixed.items() if name not in drawn and name != "epochs"}


def _trial(row: TrialRow) -> dict[str, Any]:
    table = dataclasses.asdict(row) | {"epochs": len(row.curve), "curve": list(row.curve)}
    return {key: value for key, value in table.items() if key not in ("curves", "started", "ended")}


def _importance(importance: Importance, *, sampler: str) -> dict[str, Any]:
    table = dataclasses.asdict(importance)
    del table["samples"]
    pairs = [dataclasses.asdict(pair) for pair in judge_pairs(importance)]
    return {**table, "comparisons": pairs, "sentences": tier_sentences(importance, sampler=sampler)}


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
