"""A study and its relatives: its zooms, opened, archived, deleted and charted together, and what it started from."""

import contextlib
import dataclasses
import itertools
import json
import urllib.parse
from typing import Final

import optuna

from ..attributes import CHILDREN, PARENT, SAMPLING_SEED, SPEC, WARM_START
from ..errors import SpecError, UnknownStudyError
from ..insight.family import child_names, parent_name
from ..interventions import learned_trials
from ..optuna_private import id_of_study
from ..search.seeds import trial_seed
from ..search.warm_start import SourceStudy, WarmStart, learn_from, n_results_to_learn, warm_start_json, warm_start_of
from ..spec import StudySpec
from ..storage.addresses import masked
from ..storage.database import database_exists, new_owner, open_storage
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec, study_name
from ..storage.overview import count_trials
from ..storage.places import remove_tree, rename
from ..storage.studies import archive_study, check_deletable, open_study, stored_spec, study_key
from ..storage.studies import delete_study as delete_stored_study
from ..worker.opening import open_checkpoints, open_mirror

_MLFLOW_PAGES: Final = "http://127.0.0.1:5000"  # of `make mlflow`


def open_if_any(home: Home, name: str, *, uid: str | None = None) -> tuple[LeasedStorage, optuna.Study] | None:
    """Open a study and its storage; None if the home has no such study."""
    if not database_exists(home.storage):
        return None
    storage = open_storage(home.storage, owner=new_owner())
    study = _open_relative(storage, name, uid=uid)
    return None if study is None else (storage, study)


def _open_relative(storage: LeasedStorage, name: str, *, uid: str | None = None) -> optuna.Study | None:
    with contextlib.suppress(UnknownStudyError):
        return open_study(storage, name, uid=uid)
    return None


def open_parent(storage: LeasedStorage, study: optuna.Study) -> optuna.Study | None:
    """Open the study that one was narrowed from; None if there is none, or no longer."""
    name = parent_name(study)
    parent = None if name is None else _open_relative(storage, name)
    return parent if parent is not None and study.study_name in child_names(parent) else None  # else only its namesake


def open_children(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open the zooms of a study that still exist, oldest first."""
    found = (_open_relative(storage, name) for name in child_names(study))
    return [child for child in found if child is not None and parent_name(child) == study.study_name]


def open_descendants(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open the zooms of a study, their zooms, and so on, each after its parent."""
    found = [study]
    for member in found:  # grows meanwhile
        known = {one.study_name for one in found}
        found += [child for child in open_children(storage, member) if child.study_name not in known]
    return found[1:]


def open_ancestors(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open a study's parent, its parent, and so on, up to the first one that still exists."""
    found = [study]
    while (parent := open_parent(storage, found[-1])) and parent.study_name not in {one.study_name for one in found}:
        found.append(parent)
    return found[1:]


def open_family(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open all studies of the search from coarse to fine that a study belongs to, parents first; itself if alone."""
    root = next(reversed(open_ancestors(storage, study)), study)
    return [root, *open_descendants(storage, root)]


def charts_link(home: Home, storage: LeasedStorage, study: optuna.Study, *, pages: str = _MLFLOW_PAGES) -> str | None:
    """Return where MLflow's pages show the charts of a study and its relatives; None when MLflow is down."""
    specs = [(member, spec) for member in open_family(storage, study) if (spec := stored_spec(member)) is not None]
    mirrors = [open_mirror(home, member, spec) for member, spec in specs]
    if len(mirrors) == 1:
        return mirrors[0].experiment_link(pages)
    ids = [mirror.experiment_id() for mirror in mirrors]
    if None in ids:
        return None
    query = {
        "experiments": json.dumps(ids, separators=(",", ":")),
        "orderByKey": "metrics.`value`",  # the charts show the first ten runs
        "orderByAsc": "true" if specs[0][1].objective.direction == "minimize" else "false",
        "compareRunsMode": "CHART",
        "workflowType": "machine_learning",
    }
    return f"{pages}/#/compare-experiments/s?{urllib.parse.urlencode(query)}"


def set_leftovers_aside(storage: LeasedStorage, home: Home, name: str) -> None:
    """Move the networks of a study that is gone, say deleted by the dashboard, out of the way of a new one.

    A trial's network is found by its study's name and its own number, so an old one would pass for the new one's.
    """
    left = home.networks / name
    if left.exists() and name not in optuna.get_all_study_names(storage):
        places = (home.networks / f"{name}.left-{number}" for number in itertools.count(1))
        rename(left, next(place for place in places if not place.exists()))


def archive_family(storage: LeasedStorage, home: Home, name: str) -> str | None:
    """Rename a study and its zooms, here and in MLflow, to make way for new ones; return the study's new name, if any.

    The zooms go first, so that the next call finds what an interrupted one left.
    """
    study = _open_relative(storage, name)
    if study is None:
        return None
    for child in open_children(storage, study):
        archive_family(storage, home, child.study_name)
    spec, parent, children = stored_spec(study), open_parent(storage, study), open_children(storage, study)
    archived = archive_study(storage, name)
    if archived is None:
        return None
    if parent is not None:
        renamed = [archived if known == name else known for known in child_names(parent)]
        parent.set_user_attr(CHILDREN, renamed)
    for child in children:
        child.set_user_attr(PARENT, archived)
    if spec is not None:
        open_mirror(home, study, spec).rename_experiment(archived)
    before, after = ((home.networks / one, *home.report_files(one)) for one in (name, archived))
    for path, new_path in zip(before, after, strict=True):
        if path.exists():
            rename(path, new_path)
    return archived


def describe_deletion(home: Home, study: str) -> tuple[str, str]:
    """Return what deleting a study would delete, in one line, to ask the user first; and the study's uid."""
    storage, opened = open_existing(home, study)
    name, *zooms = (
        f"{one.study_name!r} ({sum(count_trials(storage, id_of_study(one)).values())} trials)"
        for one in (opened, *open_descendants(storage, opened))
    )
    with_zooms = f" and its zooms {', '.join(zooms)}" if zooms else ""
    runs = f"{'their' if zooms else 'its'} runs in MLflow"
    return f"the study {name}{with_zooms} in {masked(home.storage)}, and {runs}", study_key(storage, opened).uid


def delete_study(home: Home, study: str, *, uid: str) -> bool:
    """Delete a study, its zooms, and their experiments in MLflow, which keeps deleted ones until ``mlflow gc``.

    The zooms go first, the youngest before its parent, so that an interrupted call leaves sound links. Returns False
    when MLflow is down, and so still has the experiments.

    Raises:
        FatalError: If the study of this name is not the one that ``uid`` says.
        StorageInternalError: If the database is damaged or cannot be written; then nothing has been deleted.
        OSError: If files in a store elsewhere cannot be deleted; then the same call goes on.
    """
    storage, opened = open_existing(home, study, uid=uid)
    parent = open_parent(storage, opened)
    doomed = [opened, *open_descendants(storage, opened)]
    check_deletable(storage, doomed)
    gone = True
    for one in reversed(doomed):
        open_checkpoints(home, one).remove_all()
        remove_tree(home.networks / one.study_name)
        for report in home.report_files(one.study_name):
            report.unlink(missing_ok=True)
        if (spec := stored_spec(one)) is not None:
            gone &= open_mirror(home, one, spec).delete_experiment()
        delete_stored_study(storage, one)
    if parent is not None:
        parent.set_user_attr(CHILDREN, [name for name in child_names(parent) if name != opened.study_name])
    return gone


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
        SourceStudy(
            name=member.study_name,
            space=known.space,
            trials=learned_trials(member.get_trials(deepcopy=False), known.search.babysat),
        )
        for member, known in studies
    ]
    direction = spec.objective.direction
    warm = learn_from(name, sources, spec.space, direction=direction, trials=spec.search.trials)
    return warm if n_results_to_learn(spec.search) else dataclasses.replace(warm, prior=None)  # it draws nothing blind
