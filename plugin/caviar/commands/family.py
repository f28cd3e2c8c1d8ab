"""A study and its zooms: linked both ways, opened, archived and charted together."""

import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import optuna

from ..attributes import CHILDREN, PARENT
from ..errors import UnknownStudyError
from ..insight.family import child_names, parent_name
from ..storage.database import database_exists, new_owner, open_storage
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import archive_study, open_study, stored_spec
from ..worker.opening import open_mirror

_MLFLOW_PAGES: Final = "http://127.0.0.1:5000"  # of `make mlflow`


def open_if_any(home: Home, name: str, *, uid: str | None = None) -> tuple[LeasedStorage, optuna.Study] | None:
    """Open a study and its storage; None if the home has no such study."""
    if not database_exists(home.storage):
        return None
    storage = open_storage(home.storage, owner=new_owner())
    try:
        return storage, open_study(storage, name, uid=uid)
    except UnknownStudyError:
        return None


def open_relative(storage: LeasedStorage, name: str) -> optuna.Study | None:
    """Open a study that another one names as its parent or its child; None if it is gone."""
    try:
        return open_study(storage, name)
    except UnknownStudyError:
        return None


def open_parent(storage: LeasedStorage, study: optuna.Study) -> optuna.Study | None:
    """Open the study that one was narrowed from; None if there is none, or no longer."""
    name = parent_name(study)
    parent = None if name is None else open_relative(storage, name)
    return parent if parent is not None and study.study_name in child_names(parent) else None  # else only its namesake


def open_children(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open the zooms of a study that still exist, oldest first."""
    found = (open_relative(storage, name) for name in child_names(study))
    return [child for child in found if child is not None and parent_name(child) == study.study_name]


def open_descendants(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open the zooms of a study, their zooms, and so on, each after its parent."""
    found: list[optuna.Study] = []
    waiting = [study]
    seen = {study.study_name}
    while waiting:
        children = [child for child in open_children(storage, waiting.pop(0)) if child.study_name not in seen]
        seen.update(child.study_name for child in children)
        found += children
        waiting += children
    return found


def open_ancestors(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open a study's parent, its parent, and so on, up to the first one that still exists."""
    found: list[optuna.Study] = []
    seen = {study.study_name}
    while (parent := open_parent(storage, found[-1] if found else study)) is not None and parent.study_name not in seen:
        found.append(parent)
        seen.add(parent.study_name)
    return found


def open_family(storage: LeasedStorage, study: optuna.Study) -> list[optuna.Study]:
    """Open all studies of the search from coarse to fine that a study belongs to, parents first; itself if alone."""
    root = next(reversed(open_ancestors(storage, study)), study)
    return [root, *open_descendants(storage, root)]


def charts_link(home: Home, storage: LeasedStorage, study: optuna.Study, *, pages: str = _MLFLOW_PAGES) -> str | None:
    """Return where MLflow's pages show the charts of a study and its relatives; None when MLflow is down."""
    found = [(member, stored_spec(member)) for member in open_family(storage, study)]
    specs = [(member, spec) for member, spec in found if spec is not None]
    mirrors = [open_mirror(home, member, spec) for member, spec in specs]
    if len(mirrors) == 1:
        return mirrors[0].experiment_link(pages)
    ids = [mirror.experiment_id() for mirror in mirrors]
    if None in ids:
        return None
    query = urllib.parse.urlencode(
        {
            "experiments": json.dumps(ids, separators=(",", ":")),
            "orderByKey": "metrics.`value`",  # the charts show the first ten runs
            "orderByAsc": "true" if specs[0][1].objective.direction == "minimize" else "false",
            "compareRunsMode": "CHART",
            "workflowType": "machine_learning",
        }
    )
    return f"{pages}/#/compare-experiments/s?{query}"


def add_child(parent: optuna.Study, name: str) -> None:
    """Add a zoom to a study's children; call it under ``creation_lock``."""
    _set_children(parent, [*(known for known in child_names(parent) if known != name), name])


def remove_child(parent: optuna.Study, name: str) -> None:
    """Remove a zoom from a study's children."""
    _set_children(parent, [known for known in child_names(parent) if known != name])


def set_leftovers_aside(storage: LeasedStorage, home: Home, name: str) -> None:
    """Move the networks of a study that is gone, say deleted by the dashboard, out of the way of a new one.

    A trial's network is found by its study's name and its own number, so an old one would pass for the new one's.
    """
    left = home.networks / name
    if left.exists() and name not in optuna.get_all_study_names(storage):
        number = 1
        while (aside := home.networks / f"{name}.left-{number}").exists():
            number += 1
        left.rename(aside)


def archive_family(storage: LeasedStorage, home: Home, name: str) -> str | None:
    """Rename a study and its zooms, here and in MLflow, to make way for new ones of their names.

    The zooms go first, so that the next call finds what an interrupted one left.

    Returns:
        The study's new name, or None if there was no study of this name.
    """
    study = open_relative(storage, name)
    if study is None:
        return None
    for child in open_children(storage, study):
        archive_family(storage, home, child.study_name)
    spec, parent, children = stored_spec(study), open_parent(storage, study), open_children(storage, study)
    archived = archive_study(storage, name)
    if archived is None:
        return None
    if parent is not None:
        _set_children(parent, [archived if known == name else known for known in child_names(parent)])
    for child in children:
        child.set_user_attr(PARENT, archived)
    if spec is not None:
        open_mirror(home, study, spec).rename_experiment(archived)
    for path, renamed in zip(_files(home, name), _files(home, archived), strict=True):
        if path.exists():
            path.rename(renamed)
    return archived


def _files(home: Home, name: str) -> tuple[Path, ...]:
    """Return the files and folders that a home keeps under a study's name."""
    return (home.networks / name, *home.report_files(name))


def _set_children(study: optuna.Study, names: Sequence[str]) -> None:
    study.set_user_attr(CHILDREN, list(names))
