"""``caviar run --from``: what a new study takes over, read from the other one, and kept with the new one."""

import dataclasses

import optuna

from ..attributes import SAMPLING_SEED, SPEC, WARM_START
from ..errors import SpecError, UnknownStudyError
from ..search.seeds import trial_seed
from ..search.warm_start import (
    SourceStudy,
    WarmStart,
    learn_from,
    n_results_to_learn,
    warm_start_json,
    warm_start_of,
)
from ..spec import StudySpec
from ..storage.database import database_exists, new_owner, open_storage
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec, study_name
from ..storage.studies import open_study, stored_spec
from .family import open_family


def plan_warm_start(spec: StudySpec, home: Home, source: str | None, *, fresh: bool) -> WarmStart | None:
    """Return what a study that is to be run takes over; nothing is written.

    Args:
        spec: The study file.
        home: Where both live.
        source: The other study's name or file, as given with ``--from``; None for what the study has, or a cold start.
        fresh: Whether a study of this name makes way for a new one.

    Returns:
        What a new study takes over, or what the study that is there has taken; None for a cold start.

    Raises:
        SpecError: If nothing can be taken from the source, or the study is there and was begun otherwise.
        StorageError: If there is no such source.
    """
    begun = None if fresh else _begun_study(home, spec.name)
    if begun is not None:
        if source is not None:
            check_source(begun, study_name(source))
        return warm_start_of(begun)
    return None if source is None else _learn(spec, home, source)


def warm_start_attributes(warm: WarmStart | None, spec: StudySpec) -> dict[str, str]:
    """Return what is kept on a new study about what it takes over, with the seed of what it draws.

    With the file's own seed, a study that shares seed and space with its source would draw the source's trials again.
    """
    if warm is None:
        return {}
    return {WARM_START: warm_start_json(warm), SAMPLING_SEED: str(trial_seed(spec.seed, 0, f"from {warm.source}"))}


def check_source(study: optuna.Study, source: str) -> None:
    """Refuse to go on with a study from another source than it was begun with.

    Raises:
        SpecError: Naming both, and the ways on.
    """
    warm = warm_start_of(study)
    if warm is not None and warm.source == source:
        return
    began = "without --from" if warm is None else f"--from {warm.source!r}"
    raise SpecError(
        f"The study {study.study_name!r} was begun {began}, not --from {source!r}, and what it started from cannot "
        "change. Run it as it was begun, give this one another name (--set name=…), or run it with --fresh, which "
        "archives the old one."
    )


def _begun_study(home: Home, name: str) -> optuna.Study | None:
    if not database_exists(home.storage):
        return None
    try:
        study = open_study(open_storage(home.storage, owner=new_owner()), name)
    except UnknownStudyError:
        return None
    return study if SPEC in study.user_attrs else None


def _learn(spec: StudySpec, home: Home, source: str) -> WarmStart:
    storage, opened = open_existing(home, source)
    required_spec(opened)
    family = [(member, stored_spec(member)) for member in open_family(storage, opened)]
    studies = [(member, known) for member, known in family if known is not None]
    name = opened.study_name
    if spec.name in (member.study_name for member, _ in studies):
        raise SpecError(
            f"The study {spec.name!r} cannot begin from itself or from its zooms. Go on with it without --from, or "
            "give the new study another name (--set name=…)."
        )
    for _, known in studies:
        if known.objective.direction != spec.objective.direction:
            raise SpecError(
                f"The study {name!r} is to {known.objective.direction} {known.objective.metric}, this one to "
                f"{spec.objective.direction} {spec.objective.metric}: what is good there is not good here. Name "
                "another one, or begin without --from."
            )
    warm = learn_from(
        name,
        [
            SourceStudy(name=member.study_name, space=known.space, trials=member.get_trials(deepcopy=False))
            for member, known in studies
        ],
        spec.space,
        direction=spec.objective.direction,
        trials=spec.search.trials,
    )
    return warm if n_results_to_learn(spec.search) else dataclasses.replace(warm, prior=None)  # it draws nothing blind
