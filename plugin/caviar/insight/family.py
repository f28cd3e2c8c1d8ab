"""Where a study comes from: its family of zooms, the stages of sampler ``zoom``, and its warm start."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ..attributes import CHILDREN, PARENT
from ..optuna_private import id_of_study
from ..parameters import Parameter
from ..search.stages import plan_of_study
from ..search.warm_start import WarmStart
from ..search.zoom_sampler import stage_spaces
from ..space import SearchSpace
from ..spec import StudySpec
from ..storage.studies import stored_spec
from .rows import TrialRow, best_rows, drawn_parameters, trial_rows
from .words import listed, range_shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One study of a family, or one zoom stage of a study; ``is_current`` if the report is about it.

    The study without a parent has generation 0, its zooms 1, and so on. ``n_trials`` and ``rows`` are the finished
    trials without those copied from the parent; ``best_value`` counts copies too. The dashboard's addresses contain
    the ``study_id``. A stage has no rows, which its study has, and no id.
    """

    name: str
    generation: int
    is_current: bool = False
    n_trials: int
    best_value: float | None
    parameters: tuple[Parameter, ...]
    n_copied: int = 0
    rows: tuple[TrialRow, ...] = ()
    study_id: int | None = None


def parent_name(study: optuna.Study) -> str | None:
    """Return the name of the study that one is a zoom of, even if that study is gone, or None."""
    name = study.user_attrs.get(PARENT)
    return name if isinstance(name, str) else None


def child_names(study: optuna.Study) -> list[str]:
    """Return the names of a study's zooms, oldest first, including those that are gone."""
    names = study.user_attrs.get(CHILDREN)
    return list(names) if isinstance(names, list) else []


def family_members(family: Sequence[optuna.Study], *, current: optuna.Study) -> tuple[Member, ...]:
    """Return the members of a family of studies, each given after its parent; none for a study alone.

    Studies that were not made from a study file are left out. The report is about ``current``.
    """
    generations: dict[str, int] = {}
    members = []
    for study in family:
        generation = generations.get(parent_name(study) or "", -1) + 1
        generations[study.study_name] = generation
        if (spec := stored_spec(study)) is not None:
            member = _member(study.study_name, study.get_trials(deepcopy=False), spec, spec.space, generation)
            here = study.study_name == current.study_name
            members.append(dataclasses.replace(member, is_current=here, study_id=id_of_study(study)))
    return tuple(members) if len(members) > 1 else ()


def zoom_stages(study: optuna.Study, spec: StudySpec, *, generation: int = 0) -> tuple[Member, ...]:
    """Return the stages of the sampler ``zoom`` that a study has begun; none for another sampler or before the second.

    Their ranges are those that the trials give them now, from which the next trial of each stage would be drawn. The
    first stage has the given generation.
    """
    plan = plan_of_study(study, spec.search)
    if plan is None:
        return ()
    trials = study.get_trials(deepcopy=False)
    plan = plan.among(trials)
    last = plan.stage_of(max((trial.number for trial in trials), default=0))
    if last == 0:
        return ()
    members = []
    for stage, space in enumerate(stage_spaces(spec.space, trials, plan, spec.objective.direction, last=last)):
        own = [trial for trial in trials if plan.stage_of(trial.number) == stage]
        member = _member(f"{study.study_name}, stage {stage + 1}", own, spec, space, generation + stage)
        members.append(dataclasses.replace(member, is_current=stage == last, rows=()))
    return tuple(members)


def with_zoom_stages(members: Sequence[Member], study: optuna.Study, spec: StudySpec) -> tuple[Member, ...]:
    """Return the members of a family, with the zoom stages of the study that the report is about after it."""
    if not members:
        return zoom_stages(study, spec)
    found: list[Member] = []
    for member in members:
        stages = zoom_stages(study, spec, generation=member.generation + 1) if member.is_current else ()
        found += [member, *stages]
    return tuple(found)


def warm_start_table(warm: WarmStart | None, space: SearchSpace) -> dict[str, Any] | None:
    """Return what a study takes over, ready for JSON, or None for a cold start.

    ``source``; ``n_trials``, how many of its trials had a result; ``configurations``, the n-th of them trial n's, each
    with the ``study`` and the ``trial`` that it was, the ``value`` reached there, and ``hyperparameters``; ``prior``,
    hyperparameter → the narrower range that draws come from; ``prior_share``; ``reason``.
    """
    if warm is None:
        return None
    table = dataclasses.asdict(dataclasses.replace(warm, prior=None))
    for configuration in table["configurations"]:
        taken = space.hyperparameters(configuration.pop("params"))
        configuration["hyperparameters"] = {name: value for name, value in taken.items() if name not in space.fixed}
    narrowed = () if warm.prior is None else warm.prior.parameters
    return table | {"prior": {one.name: range_shown(one) for one in narrowed if one not in space.parameters}}


def warm_start_sentences(table: Mapping[str, Any] | None) -> list[str]:
    """Return in words what ``warm_start_table`` says: what is tried first, and where else the search looks."""
    if table is None:
        return []
    source = table["source"]
    tried = [
        f"trial {one['trial']}" + ("" if one["study"] == source else f" of {one['study']}")
        for one in table["configurations"]
    ]
    sentences = [f"warm start from {source}" + (f": tries its {listed(tried)} first" if tried else "")]
    if table["prior"]:
        ranges = "; ".join(f"{name} {text}" for name, text in table["prior"].items())
        share = f"{table['prior_share']:.0%}"
        sentences.append(f"once these beat its own draws, {share} of its random draws come from {ranges}")
    return sentences


def _member(name: str, trials: Sequence[FrozenTrial], spec: StudySpec, space: SearchSpace, generation: int) -> Member:
    parameters, metric = drawn_parameters(space), spec.objective.metric
    rows = trial_rows(trials, parameters, metric=metric)
    best = best_rows(rows, metric=metric)
    own = tuple(row for row in rows if row.is_finished and not row.inherited)
    return Member(
        name=name,
        generation=generation,
        n_trials=len(own),
        best_value=best[0].value if best else None,
        parameters=parameters,
        n_copied=sum(row.inherited for row in rows),
        rows=own,
    )
