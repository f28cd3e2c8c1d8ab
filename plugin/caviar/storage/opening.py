"""Finding a study by its name or its file, and opening it."""

import os
from pathlib import Path

import optuna

from ..errors import StorageError
from ..spec import StudySpec, read_spec
from .database import new_owner, open_storage
from .home import Home
from .leased_storage import LeasedStorage
from .studies import open_study, stored_spec


def study_name(study: str) -> str:
    """Return the name that a ``STUDY`` argument means: a study's own, or that in its file.

    Raises:
        SpecError: If it is a file that cannot be read.
    """
    return read_spec(Path(study)).name if study.endswith(".toml") or os.sep in study else study


def open_existing(home: Home, study: str, *, uid: str | None = None) -> tuple[LeasedStorage, optuna.Study]:
    """Open a study that has been run, by its name or its file; ``uid`` is as ``open_study`` has it.

    Raises:
        StorageError: If there is none of this name, or no database.
        FatalError: If it is another one than ``uid`` says.
    """
    name = study_name(study)
    storage = open_storage(home.storage, owner=new_owner())
    return storage, open_study(storage, name, uid=uid)


def required_spec(study: optuna.Study) -> StudySpec:
    """Return the study file that a study was run from.

    Raises:
        StorageError: If it was made without one.
    """
    spec = stored_spec(study)
    if spec is None:
        raise StorageError(
            f"The study {study.study_name!r} was not made from a study file, so it cannot be read as one. "
            "Open it with optuna-dashboard."
        )
    return spec
