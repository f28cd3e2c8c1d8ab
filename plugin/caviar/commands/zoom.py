"""Zooming in: a child study in the narrower space that holds a study's best trials."""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Mapping

import optuna
from optuna.trial import FrozenTrial

from ..attributes import CHILDREN, FINGERPRINT, PARENT, SAMPLING_SEED, ZOOM
from ..data.dataset import DatasetFacts
from ..errors import SpecError
from ..insight.family import child_names
from ..interventions import learned_trials
from ..search.narrowing import MIN_TRIALS, ZoomRule
from ..search.seeds import trial_seed
from ..search.zoom import copies_that_fit, narrow_space, observations_of
from ..spec import StudySpec, parse_spec, spec_table
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.studies import check_still_there, create_whole_study, open_study, study_key
from .family import open_ancestors, open_children, set_leftovers_aside
from .report import show_family
from .run import (
    OnProgress,
    RunResult,
    check_runnable,
    create_and_run,
    new_study_attributes,
    read_progress,
    result_lines,
    run_study,
)

_LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomFacts:
    """How a study was narrowed from its parent, stored with it as JSON.

    ``trials`` are to run besides the copied ones. The space was drawn around the ``n_best`` trials, and has this share
    of the parent's ``volume``, on the parameters' own scales. ``notes`` say what became of each parameter's range.
    """

    keep: float
    trials: int
    n_copied: int
    n_best: int
    volume: float
    reason: str
    notes: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomOutcome:
    """What became of a zoom: a child created now, an earlier one resumed, or none, and why."""

    parent: str
    child: str | None = None
    created: bool = False
    reason: str
    run: RunResult | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """A zoom that does not exist yet."""

    spec: StudySpec
    copies: list[FrozenTrial]
    facts: ZoomFacts


def zoom_study(
    home: Home,
    study: str,
    *,
    keep: float | None = None,
    trials: int | None = None,
    on_progress: OnProgress = lambda _progress: None,
    say: Callable[[str], None] = lambda _line: None,
) -> ZoomOutcome:
    """Zoom in to a study, and run the zoom until its budget is spent, its time is up, or Ctrl-C or SIGTERM ends it.

    An unfinished zoom is resumed. A new one is created if it would differ from the existing ones. optuna-dashboard then
    shows the whole search with each of its studies. ``keep`` is the share of the study's trials, in (0, 1), that counts
    as the best; 0.2 by default. ``trials`` are the zoom's new ones; by default as many as the study had of its own.
    ``say`` is called with each line that is worth telling before the run.

    Raises:
        SpecError: If an argument is not allowed, or the study has too few trials with a result.
        CaviarError: If the data, the home or the storage is not fit to run.
    """
    rule = ZoomRule() if keep is None else ZoomRule(keep=keep)
    if trials is not None and trials < 1:
        raise SpecError(f"--trials must be at least 1, but got {trials}.")
    storage, parent = open_existing(home, study)
    prepare_home(home)

    def resume(name: str, reason: str) -> ZoomOutcome:
        say(reason)
        run = _run_zoom(home, name, trials=trials, on_progress=on_progress)
        return ZoomOutcome(parent=parent.study_name, child=name, reason=reason, run=run)

    unfinished = _unfinished_zoom(storage, parent, keep=keep)
    if unfinished is not None:
        outcome = resume(unfinished, f"{unfinished!r}, a zoom of {parent.study_name!r}, is not finished; resuming it.")
    else:
        planned = _plan(storage, parent, rule=rule, trials=trials)
        if isinstance(planned, str):
            return ZoomOutcome(parent=parent.study_name, reason=planned)
        same = _same_zoom(storage, parent, planned.spec)
        known = None if same is None else zoom_facts(same)
        if same is None:
            uid = study_key(storage, parent).uid
            outcome = _make_and_run(home, parent.study_name, planned, uid=uid, on_progress=on_progress, say=say)
        elif trials is None or known is None or trials <= known.trials:
            further = f"To zoom in further, run `caviar zoom {same.study_name}`; to give it more trials, use --trials."
            reason = f"The zoom of these trials, {same.study_name!r}, is already finished. {further}"
            return ZoomOutcome(parent=parent.study_name, reason=reason)
        else:
            outcome = resume(same.study_name, f"The zoom of these trials, {same.study_name!r}, gets more trials.")
    check_still_there(storage, parent)
    show_family(storage, parent)
    return outcome


def _run_zoom(home: Home, name: str, *, trials: int | None, on_progress: OnProgress) -> RunResult:
    """Resume a zoom until it has run so many new trials in all, by default as many as it was given before."""
    storage, child = open_existing(home, name)
    spec, known, also = required_spec(child), zoom_facts(child), dict[str, str]()
    if trials is not None and known is not None:
        also = {ZOOM: json.dumps(dataclasses.asdict(dataclasses.replace(known, trials=trials)))}
        spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, trials=known.n_copied + trials))
    return run_study(spec, home, on_progress=on_progress, uid=study_key(storage, child).uid, also=also)


def zoom_facts(study: optuna.Study) -> ZoomFacts | None:
    """Return how a study was narrowed from its parent; None if it is no zoom."""
    text = study.user_attrs.get(ZOOM)
    return None if text is None else ZoomFacts(**json.loads(text))


def outcome_lines(outcome: ZoomOutcome) -> list[str]:
    """Return what to say about a zoom besides the study's status."""
    if outcome.child is None or outcome.run is None:
        return [f"Nothing was created: {outcome.reason}"]
    return result_lines(outcome.run, outcome.child)


def outcome_table(outcome: ZoomOutcome) -> dict[str, str | bool | None]:
    """Return an outcome, ready for JSON."""
    return {name: getattr(outcome, name) for name in ("parent", "child", "created", "reason")}


def _make_and_run(
    home: Home, name: str, planned: _Plan, *, uid: str, on_progress: OnProgress, say: Callable[[str], None]
) -> ZoomOutcome:
    """Create the planned zoom of the study of this name and uid, and run it."""
    check_runnable(planned.spec)

    def create(storage: LeasedStorage, facts: DatasetFacts) -> tuple[optuna.Study, StudySpec]:
        parent = open_study(storage, name, uid=uid)
        if parent.user_attrs.get(FINGERPRINT) not in (None, facts.fingerprint):
            raise SpecError(
                f"The data set {facts.name!r} has changed since the study {name!r} was begun, so its trials say "
                "nothing about the present data. Restore the former data, or start a new study."
            )
        same = _same_zoom(storage, parent, planned.spec)
        zoom = same or _create(home, storage, parent, planned=planned, facts=facts)
        say(f"{zoom.study_name}: {planned.facts.reason}")
        for parameter, note in planned.facts.notes.items():
            say(f"  {parameter} {note}")
        return zoom, required_spec(zoom)

    run = create_and_run(planned.spec, home, create, on_progress=on_progress)
    return ZoomOutcome(parent=name, child=run.progress.study, created=True, reason=planned.facts.reason, run=run)


def _plan(storage: LeasedStorage, parent: optuna.Study, *, rule: ZoomRule, trials: int | None) -> _Plan | str:
    """Return the zoom that a study's trials call for, or why it would not help; too few trials are a SpecError."""
    spec = required_spec(parent)
    stored = learned_trials(parent.get_trials(deepcopy=False), spec.search.babysat)
    observations = observations_of(stored, spec.objective.direction)
    ancestors = open_ancestors(storage, parent)
    root = required_spec(ancestors[-1]).space if ancestors else spec.space
    result = narrow_space(spec.space, observations, root=root, rule=rule)
    if not result.worthwhile:
        n_results = sum(math.isfinite(observation.cost) for observation in observations)
        if n_results < MIN_TRIALS:
            raise SpecError(f"{parent.study_name}: {result.reason}")
        return result.reason
    known = zoom_facts(parent)
    n_new = trials or (spec.search.trials if known is None else known.trials)
    copies = copies_that_fit(result.space, stored)
    search = dataclasses.replace(spec.search, trials=len(copies) + n_new)
    name = _next_name(parent.study_name, optuna.get_all_study_names(storage))
    child = dataclasses.replace(spec, name=name, space=result.space, search=search)
    facts = ZoomFacts(
        keep=rule.keep,
        trials=n_new,
        n_copied=len(copies),
        n_best=result.n_best,
        volume=result.volume,
        reason=result.reason,
        notes=dict(result.notes),
    )
    return _Plan(spec=parse_spec(spec_table(child)), copies=copies, facts=facts)


def _create(
    home: Home, storage: LeasedStorage, parent: optuna.Study, *, planned: _Plan, facts: DatasetFacts
) -> optuna.Study:
    """Create the zoom and link it both ways; the parent first, since readers skip a child that does not exist yet."""
    name = _next_name(parent.study_name, optuna.get_all_study_names(storage))
    set_leftovers_aside(storage, home, name)
    parent.set_user_attr(CHILDREN, [*(known for known in child_names(parent) if known != name), name])
    attributes = {
        **new_study_attributes(facts),
        PARENT: parent.study_name,
        ZOOM: json.dumps(dataclasses.asdict(planned.facts)),
        SAMPLING_SEED: str(trial_seed(planned.spec.seed, int(name.rpartition("-")[2]), "zoom")),
    }
    spec = dataclasses.replace(planned.spec, name=name)
    return create_whole_study(storage, spec, attributes=attributes, trials=planned.copies)


def _next_name(parent: str, names: Collection[str]) -> str:
    """Return the first of ``NAME-zoom-1``, ``NAME-zoom-2``, … that is free; a zoom's zoom continues the count."""
    stem = re.sub(r"-zoom-\d+$", "", parent)
    endings = (f"-zoom-{number}" for number in itertools.count(1))
    return next(name for end in endings if (name := stem[: _LONGEST_NAME - len(end)] + end) not in names)


def _unfinished_zoom(storage: LeasedStorage, parent: optuna.Study, *, keep: float | None) -> str | None:
    """Return the newest zoom of a study that has trials left to run, with this ``keep`` if one is given."""
    for child in reversed(open_children(storage, parent)):
        known = zoom_facts(child)
        is_wanted = known is not None and keep in (None, known.keep)
        if is_wanted and not read_progress(storage, child, required_spec(child)).is_complete:
            return child.study_name
    return None


def _same_zoom(storage: LeasedStorage, parent: optuna.Study, spec: StudySpec) -> optuna.Study | None:
    return next((zoom for zoom in open_children(storage, parent) if required_spec(zoom).space == spec.space), None)
