"""Zooming in: from a study's trials a child study in the narrower space that holds the best of them."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Mapping

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import FINGERPRINT, PARENT, SAMPLING_SEED, ZOOM
from ..data.dataset import DatasetFacts
from ..errors import SpecError
from ..search.narrowing import MIN_TRIALS, ZoomRule
from ..search.seeds import trial_seed
from ..search.zoom import copies_that_fit, narrow_space, observations_of
from ..spec import StudySpec, parse_spec, spec_table
from ..storage.database import creation_lock
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.overview import count_trials
from ..storage.studies import check_still_there, create_study, create_whole_study, open_study, study_key
from .family import add_child, open_ancestors, open_children, set_leftovers_aside
from .new_study import new_study_attributes
from .run import Progress, RunResult, check_runnable, open_for_run, read_progress, result_lines, run_created
from .search_view import show_search

DEFAULT_KEEP = ZoomRule.keep
_LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomFacts:
    """How a study was narrowed from its parent.

    Attributes:
        keep: Share of the parent's trials that counted as the best.
        trials: New trials that it was given.
        n_copied: Trials that it began with, which are its parent's.
        n_best: Trials that its space was drawn around.
        volume: Its space's share of its parent's, on the parameters' own scales.
        reason: Why it was worth it, in words.
        notes: Parameter → what became of its range, in words.
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
    """What became of a zoom.

    Attributes:
        parent: The study that was zoomed in to.
        child: The narrower study, or None where there is none.
        created: Whether it was made now; False where an earlier one was gone on with.
        reason: Why it was made or not, in words.
        run: What its run did, or None without one.
    """

    parent: str
    child: str | None
    created: bool
    reason: str
    run: RunResult | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """A child study that is not there yet."""

    parent_uid: str
    spec: StudySpec
    copies: list[FrozenTrial]
    facts: ZoomFacts


def zoom_study(
    home: Home,
    study: str,
    *,
    keep: float | None = None,
    trials: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    say: Callable[[str], None] = lambda _line: None,
) -> ZoomOutcome:
    """Zoom in to a study, and run the zoom until its budget is spent, its time is up, or Ctrl-C or SIGTERM ends it.

    A zoom of it that is not finished is gone on with; a new one is made where it would differ from those that are.
    In optuna-dashboard the whole search is then shown with each of its studies.

    Args:
        home: Where it lives.
        study: Its name or its file.
        keep: Share of its trials, in (0, 1), that counts as the best; 0.2 by default.
        trials: New trials of the zoom; by default as many as the study had of its own.
        on_progress: Called at the start and after every trial.
        say: Called with what is worth telling before the run, line by line.

    Raises:
        SpecError: If an argument is not allowed, or the study has too few trials with a result to be zoomed in to.
        CaviarError: If the data, the home or the storage is not fit to run.
    """
    ZoomRule(keep=DEFAULT_KEEP if keep is None else keep)
    if trials is not None and trials < 1:
        raise SpecError(f"--trials must be at least 1, but got {trials}.")
    storage, parent = open_existing(home, study)
    prepare_home(home)
    outcome = _zoom(home, storage, parent, keep=keep, trials=trials, on_progress=on_progress, say=say)
    if outcome.child is not None:
        check_still_there(storage, parent)
        show_search(storage, parent)
    return outcome


def _zoom(
    home: Home,
    storage: LeasedStorage,
    parent: optuna.Study,
    *,
    keep: float | None,
    trials: int | None,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> ZoomOutcome:
    name = parent.study_name
    unfinished = _unfinished_zoom(storage, parent, keep=keep)
    if unfinished is not None:
        reason = f"{unfinished!r}, a zoom of {name!r}, is not finished: it goes on."
        say(reason)
        run = run_zoom(home, unfinished, trials=trials, on_progress=on_progress)
        return ZoomOutcome(parent=name, child=unfinished, created=False, reason=reason, run=run)
    planned = _plan(storage, parent, keep=DEFAULT_KEEP if keep is None else keep, trials=trials)
    if isinstance(planned, str):
        return ZoomOutcome(parent=name, child=None, created=False, reason=planned)
    same = _same_zoom(storage, parent, planned.spec)
    if same is None:
        return _make_and_run(home, parent, planned, on_progress=on_progress, say=say)
    known = zoom_facts(same)
    if trials is None or known is None or trials <= known.trials:
        reason = (
            f"The zoom of these trials is there and finished: {same.study_name!r}. Zoom in further with "
            f"`caviar zoom {same.study_name}`, or give it more trials with --trials."
        )
        return ZoomOutcome(parent=name, child=None, created=False, reason=reason)
    reason = f"The zoom of these trials is there: {same.study_name!r}. It gets more trials."
    say(reason)
    run = run_zoom(home, same.study_name, trials=trials, on_progress=on_progress)
    return ZoomOutcome(parent=name, child=same.study_name, created=False, reason=reason, run=run)


def run_zoom(
    home: Home,
    name: str,
    *,
    trials: int | None,
    on_progress: Callable[[Progress], None],
) -> RunResult:
    """Go on with a zoom that is there, to so many new trials in all, or as many as it was given before."""
    storage, child = open_existing(home, name)
    uid = study_key(storage, child).uid
    spec, known = required_spec(child), zoom_facts(child)
    if trials is not None and known is not None:
        known = dataclasses.replace(known, trials=trials)
        spec = _with_budget(spec, known.n_copied + trials)
    progress = read_progress(storage, child, spec)
    if progress.done >= progress.budget and not _n_busy(storage, child):
        on_progress(progress)
        return RunResult(finished_now=0, progress=progress)
    check_runnable(spec)
    with open_for_run(spec, home) as opening:
        with creation_lock(opening.storage):
            open_study(opening.storage, name, uid=uid)
            child = create_study(opening.storage, spec, attributes=new_study_attributes(opening.facts))
            if known is not None:
                child.set_user_attr(ZOOM, json.dumps(dataclasses.asdict(known)))
        return run_created(spec, home, opening, child, on_progress)


def zoom_facts(study: optuna.Study) -> ZoomFacts | None:
    """Return how a study was narrowed from its parent, or None for one that is no zoom."""
    text = study.user_attrs.get(ZOOM)
    return None if text is None else ZoomFacts(**json.loads(text))


def outcome_lines(outcome: ZoomOutcome) -> list[str]:
    """Return what a zoom has to say beside the study's status."""
    if outcome.child is None or outcome.run is None:
        return [f"Nothing was created: {outcome.reason}"]
    return result_lines(outcome.run, outcome.child)


def outcome_table(outcome: ZoomOutcome) -> dict[str, str | bool | None]:
    """Return an outcome, ready for JSON."""
    return {
        "parent": outcome.parent,
        "child": outcome.child,
        "created": outcome.created,
        "reason": outcome.reason,
    }


def _make_and_run(
    home: Home,
    parent: optuna.Study,
    planned: _Plan,
    *,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> ZoomOutcome:
    check_runnable(planned.spec)
    with open_for_run(planned.spec, home) as opening:
        storage, facts = opening.storage, opening.facts
        with creation_lock(storage):
            parent = open_study(storage, parent.study_name, uid=planned.parent_uid)
            known = parent.user_attrs.get(FINGERPRINT)
            if known not in (None, facts.fingerprint):
                raise SpecError(
                    f"The data set {facts.name!r} has changed since the study {parent.study_name!r} was begun, so its "
                    "trials say nothing of the data that is there now. Bring the data of before back, or begin a new "
                    "study."
                )
            same = _same_zoom(storage, parent, planned.spec)
            child = same or _create(home, storage, parent, planned=planned, facts=facts)
        name = child.study_name
        say(f"{name}: {planned.facts.reason}")
        for parameter, note in planned.facts.notes.items():
            say(f"  {parameter} {note}")
        run = run_created(required_spec(child), home, opening, child, on_progress)
    return ZoomOutcome(parent=parent.study_name, child=name, created=True, reason=planned.facts.reason, run=run)


def _plan(storage: LeasedStorage, parent: optuna.Study, *, keep: float, trials: int | None) -> _Plan | str:
    """Return the zoom that a study's trials call for, or why it is not worth it.

    Raises:
        SpecError: If the trials say nothing.
    """
    spec, rule = required_spec(parent), ZoomRule(keep=keep)
    stored = parent.get_trials(deepcopy=False)
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
    child = dataclasses.replace(
        spec,
        name=_next_name(parent.study_name, optuna.get_all_study_names(storage)),
        space=result.space,
        search=dataclasses.replace(spec.search, trials=len(copies) + n_new),
    )
    facts = ZoomFacts(
        keep=keep,
        trials=n_new,
        n_copied=len(copies),
        n_best=result.n_best,
        volume=result.volume,
        reason=result.reason,
        notes=dict(result.notes),
    )
    uid = study_key(storage, parent).uid
    return _Plan(parent_uid=uid, spec=parse_spec(spec_table(child)), copies=copies, facts=facts)


def _create(
    home: Home, storage: LeasedStorage, parent: optuna.Study, *, planned: _Plan, facts: DatasetFacts
) -> optuna.Study:
    """Create the child study and link it both ways.

    The parent names it first: whoever reads the links passes over a name that no study has yet.
    """
    name = _next_name(parent.study_name, optuna.get_all_study_names(storage))
    set_leftovers_aside(storage, home, name)
    add_child(parent, name)
    attributes = {
        **new_study_attributes(facts),
        PARENT: parent.study_name,
        ZOOM: json.dumps(dataclasses.asdict(planned.facts)),
        SAMPLING_SEED: str(trial_seed(planned.spec.seed, _number(name), "zoom")),
    }
    spec = dataclasses.replace(planned.spec, name=name)
    return create_whole_study(storage, spec, attributes=attributes, trials=planned.copies)


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _next_name(parent: str, names: Collection[str]) -> str:
    """Return the first of ``NAME-zoom-1`` and so on that no study has; a zoom's zoom counts on."""
    stem = re.sub(r"-zoom-\d+$", "", parent)
    number = 1
    while (name := f"{stem[: _LONGEST_NAME - len(f'-zoom-{number}')]}-zoom-{number}") in names:
        number += 1
    return name


def _unfinished_zoom(storage: LeasedStorage, parent: optuna.Study, *, keep: float | None) -> str | None:
    """Return the last zoom of a study, with this ``keep`` if one is given, that has trials left to run."""
    for child in reversed(open_children(storage, parent)):
        known = zoom_facts(child)
        if known is not None and keep in (None, known.keep):
            progress = read_progress(storage, child, required_spec(child))
            if progress.done < progress.budget or _n_busy(storage, child):
                return child.study_name
    return None


def _same_zoom(storage: LeasedStorage, parent: optuna.Study, spec: StudySpec) -> optuna.Study | None:
    for child in open_children(storage, parent):
        if required_spec(child).space == spec.space:
            return child
    return None


def _with_budget(spec: StudySpec, trials: int) -> StudySpec:
    return dataclasses.replace(spec, search=dataclasses.replace(spec.search, trials=trials))


def _n_busy(storage: LeasedStorage, study: optuna.Study) -> int:
    counts = count_trials(storage, study._study_id)
    return counts[TrialState.WAITING] + counts[TrialState.RUNNING]
