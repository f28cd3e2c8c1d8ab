"""The stages of a search that goes from coarse to fine within one study, as the report shows them beside zooms."""

import optuna

from ..search.stages import plan_of_study
from ..search.zoom_sampler import stage_spaces
from ..spec import StudySpec
from .axes import drawn_parameters
from .lineage import Member
from .rows import best_rows, trial_rows


def read_stages(study: optuna.Study, spec: StudySpec, *, generation: int = 0) -> tuple[Member, ...]:
    """Return the stages that a study has begun, the coarsest first; none for another sampler, or before the second.

    Their ranges are those that the trials known now give them, from which the next trial of each would be drawn.

    Args:
        study: In any state.
        spec: The study file that it was run from.
        generation: Of the study among its zooms.
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
        parameters = drawn_parameters(space)
        own = [trial for trial in trials if plan.stage_of(trial.number) == stage]
        rows = trial_rows(own, parameters, metric=spec.objective.metric)
        best = best_rows(rows, metric=spec.objective.metric)
        members.append(
            Member(
                name=f"{study.study_name}, stage {stage + 1}",
                generation=generation + stage,
                is_current=stage == last,
                n_trials=sum(row.is_finished for row in rows),
                best_value=best[0].value if best else None,
                parameters=parameters,
            )
        )
    return tuple(members)


def with_stages(lineage: tuple[Member, ...], study: optuna.Study, spec: StudySpec) -> tuple[Member, ...]:
    """Return a family of studies with the stages of the one that the report is about after it."""
    found: list[Member] = []
    for member in lineage:
        found.append(member)
        if member.is_current:
            found += read_stages(study, spec, generation=member.generation + 1)
    return tuple(found) if lineage else read_stages(study, spec)
