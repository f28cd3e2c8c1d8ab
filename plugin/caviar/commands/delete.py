"""Deleting a study: from Optuna's storage, from MLflow, and its files."""

import shutil

import optuna

from ..storage.home import Home
from ..storage.overview import count_trials
from ..storage.studies import stored_spec
from .opening import open_checkpoints, open_existing, open_mirror


def describe_deletion(home: Home, study: str) -> str:
    """Return what deleting a study would delete, in one line, to be asked about first.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    n_trials = sum(count_trials(storage, opened._study_id).values())
    return f"the study {opened.study_name!r} with its {n_trials} trials in {home.storage} and its runs in MLflow"


def delete_study(home: Home, study: str) -> bool:
    """Delete a study and its experiment in MLflow, which keeps deleted experiments until ``mlflow gc``.

    Returns:
        Whether MLflow has forgotten it too; False when it is down.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    spec = stored_spec(opened)
    gone = True if spec is None else open_mirror(home, opened, spec).delete_experiment()
    open_checkpoints(home, opened).remove_all()
    shutil.rmtree(home.networks / opened.study_name, ignore_errors=True)
    optuna.delete_study(study_name=opened.study_name, storage=storage)
    return gone
