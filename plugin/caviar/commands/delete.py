"""Deleting a study: from Optuna's storage, from MLflow, and its files."""

import shutil

import optuna

from ..storage import studies
from ..storage.addresses import masked
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing
from ..storage.overview import count_trials
from ..storage.studies import stored_spec, study_key
from ..worker.opening import open_checkpoints, open_mirror
from .family import open_descendants, open_parent, remove_child


def describe_deletion(home: Home, study: str) -> tuple[str, str]:
    """Return what deleting a study would delete, in one line, to be asked about first; and the study's uid.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    zooms = [f"{zoom.study_name!r} ({_n_trials(storage, zoom)} trials)" for zoom in open_descendants(storage, opened)]
    what = f"the study {opened.study_name!r} with its {_n_trials(storage, opened)} trials"
    if zooms:
        what = f"{what}, and what was zoomed in to from it, {', '.join(zooms)},"
    what = f"{what} in {masked(home.storage)} and {'their' if zooms else 'its'} runs in MLflow"
    return what, study_key(storage, opened).uid


def delete_study(home: Home, study: str, *, uid: str | None = None) -> bool:
    """Delete a study, its zooms, and their experiments in MLflow, which keeps deleted ones until ``mlflow gc``.

    The zooms go first, the last one first of all: what an interrupted call leaves is a whole family, only smaller.

    Args:
        home: Where it lives.
        study: Its name or its file.
        uid: What tells it from others of its name, or None for whichever has the name.

    Returns:
        Whether MLflow has forgotten it too; False when it is down.

    Raises:
        StorageError: If there is no such study.
        FatalError: If it is another one than ``uid`` says.
        StorageInternalError: If the database is damaged or cannot be written; everything is there still.
    """
    storage, opened = open_existing(home, study, uid=uid)
    parent = open_parent(storage, opened)
    family = [opened, *open_descendants(storage, opened)]
    studies.check_deletable(storage, family)
    gone = [_delete(home, storage, one) for one in reversed(family)]
    if parent is not None:
        remove_child(parent, opened.study_name)
    return all(gone)


def _n_trials(storage: LeasedStorage, study: optuna.Study) -> int:
    return sum(count_trials(storage, study._study_id).values())


def _delete(home: Home, storage: LeasedStorage, opened: optuna.Study) -> bool:
    spec = stored_spec(opened)
    gone = True if spec is None else open_mirror(home, opened, spec).delete_experiment()
    open_checkpoints(home, opened).remove_all()
    shutil.rmtree(home.networks / opened.study_name, ignore_errors=True)
    for report in home.report_files(opened.study_name):
        report.unlink(missing_ok=True)
    studies.delete_study(storage, opened)
    return gone
