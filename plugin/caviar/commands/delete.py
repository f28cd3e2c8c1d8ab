"""Deleting a study: from Optuna's storage, from MLflow, and its files."""

import shutil

import optuna

from ..storage.addresses import masked
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing
from ..storage.overview import count_trials
from ..storage.studies import stored_spec
from ..worker.opening import open_checkpoints, open_mirror
from .family import open_descendants, open_parent, remove_child


def describe_deletion(home: Home, study: str) -> str:
    """Return what deleting a study would delete, in one line, to be asked about first.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    zooms = [f"{zoom.study_name!r} ({_n_trials(storage, zoom)} trials)" for zoom in open_descendants(storage, opened)]
    what = f"the study {opened.study_name!r} with its {_n_trials(storage, opened)} trials"
    if zooms:
        what = f"{what}, and what was zoomed in to from it, {', '.join(zooms)},"
    return f"{what} in {masked(home.storage)} and {'their' if zooms else 'its'} runs in MLflow"


def delete_study(home: Home, study: str) -> bool:
    """Delete a study, its zooms, and their experiments in MLflow, which keeps deleted ones until ``mlflow gc``.

    The zooms go first, the last one first of all: what an interrupted call leaves is a whole family, only smaller.

    Returns:
        Whether MLflow has forgotten it too; False when it is down.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    parent = open_parent(storage, opened)
    gone = [_delete(home, storage, one) for one in reversed([opened, *open_descendants(storage, opened)])]
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
    optuna.delete_study(study_name=opened.study_name, storage=storage)
    return gone
