"""``caviar run --from``: what a new study takes over from another one; it is stored with the new study."""

import dataclasses

import optuna

from ..attributes import SAMPLING_SEED, SPEC, WARM_START
from ..errors import SpecError
from ..search.seeds import trial_seed
from ..search.warm_start import SourceStudy, WarmStart, learn_from, n_results_to_learn, warm_start_json, warm_start_of
from ..spec import StudySpec
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec, study_name
from ..storage.studies import stored_spec
from .family import open_family, open_if_any


def plan_warm_start(spec: StudySpec, home: Home, source: str | None, *, fresh: bool) -> WarmStart | None:
    """Return what a study to run takes over from the source, or took over when it was begun; None for a cold start.

    Raises:
        SpecError: If nothing can be taken from the source, or the study exists and was begun otherwise.
        StorageError: If there is no such source.
    """
    found = None if fresh else open_if_any(home, spec.name)
    if found is not None and SPEC in found[1].user_attrs:
        if source is not None:
            check_source(found[1], study_name(source))
        return warm_start_of(found[1])
    return None if source is None else _learn(spec, home, source)


def warm_start_attributes(warm: WarmStart | None, spec: StudySpec) -> dict[str, str]:
    """Return what a new study stores about what it takes over, and the seed of what it draws.

    With the file's own seed, a study that shares seed and space with its source would draw the source's trials again.
    """
    if warm is None:
        return {}
    return {WARM_START: warm_start_json(warm), SAMPLING_SEED: str(trial_seed(spec.seed, 0, f"from {warm.source}"))}


def check_source(study: optuna.Study, source: str) -> None:
    """Refuse to resume a study with another source than it was begun with."""
    warm = warm_start_of(study)
    if warm is not None and warm.source == source:
        return
    began = "without --from" if warm is None else f"--from {warm.source!r}"
    raise SpecError(
        f"The study {study.study_name!r} was begun {began}, not --from {source!r}, and a study's source cannot change. "
        "Run it as it was begun, give the new one another name (--set name=…), or use --fresh, which archives the old "
        "one."
    )


def _learn(spec: StudySpec, home: Home, source: str) -> WarmStart:
    storage, opened = open_existing(home, source)
    required_spec(opened)
    studies = [(member, known) for member in open_family(storage, opened) if (known := stored_spec(member)) is not None]
    name = opened.study_name
    if spec.name in (member.study_name for member, _ in studies):
        raise SpecError(
            f"The study {spec.name!r} cannot start from itself or from its zooms. Resume it without --from, or give "
            "the new study another name (--set name=…)."
        )
    for _, known in studies:
        if known.objective.direction != spec.objective.direction:
            raise SpecError(
                f"The study {name!r} {known.objective.direction}s {known.objective.metric}, but this one "
                f"{spec.objective.direction}s {spec.objective.metric}, so their results do not compare. Name another "
                "source, or start without --from."
            )
    sources = [
        SourceStudy(name=member.study_name, space=known.space, trials=member.get_trials(deepcopy=False))
        for member, known in studies
    ]
    direction = spec.objective.direction
    warm = learn_from(name, sources, spec.space, direction=direction, trials=spec.search.trials)
    return warm if n_results_to_learn(spec.search) else dataclasses.replace(warm, prior=None)  # it draws nothing blind
