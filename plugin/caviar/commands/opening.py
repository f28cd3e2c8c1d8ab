"""Finding a study by its name or its file, and opening what stands around it."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import optuna

from ..data.dataset import DatasetFacts
from ..errors import StorageError
from ..insight.guessing import GUESS
from ..insight.lineage import parent_name
from ..record.environment import environment_versions
from ..record.mlflow_mirror import MlflowMirror
from ..search.warm_start import warm_start_of
from ..spec import StudySpec, read_spec
from ..storage.checkpoints import CheckpointStore
from ..storage.database import new_owner, open_storage
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import FINGERPRINT, open_study, stored_spec

#: A study's user attribute that tells it from an older one of its name, in MLflow for instance.
STUDY_UID = "caviar:uid"
#: The study's user attribute that holds the versions it was begun with, as JSON.
ENVIRONMENT = "environment"
#: The user attribute of a zoom, and of a study begun from another one, that holds the seed of what it draws. With its
#: parent's, whose split of the data it shares, its trials would take its parent's places in every range again.
SAMPLING_SEED = "caviar:sampling_seed"


def study_name(study: str) -> str:
    """Return the name that a ``STUDY`` argument means: a study's own, or that in its file.

    Raises:
        SpecError: If it is a file that cannot be read.
    """
    return read_spec(Path(study)).name if study.endswith(".toml") or os.sep in study else study


def open_existing(home: Home, study: str) -> tuple[LeasedStorage, optuna.Study]:
    """Open a study that has been run.

    Raises:
        StorageError: If there is none of this name, or no database.
    """
    name = study_name(study)
    storage = open_storage(home.storage, owner=new_owner())
    return storage, open_study(storage, name)


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


def sampling_seed(study: optuna.Study, spec: StudySpec) -> int:
    """Return the seed of what a study draws: its file's, or one of its own where it comes from another study."""
    return int(study.user_attrs.get(SAMPLING_SEED, spec.seed))


def open_mirror(home: Home, study: optuna.Study, spec: StudySpec) -> MlflowMirror:
    """Return the study's mirror in MLflow; nothing is opened before its first use."""
    warm = warm_start_of(study)
    local = home.tracking_uri.startswith("sqlite:")
    return MlflowMirror(
        home.tracking_uri,
        study_name=study.study_name,
        study_uid=study.user_attrs.get(STUDY_UID, ""),
        artifact_location=(home.mlflow_artifacts.absolute().as_uri() if local else None),
        experiment_tags={
            "caviar.dataset": spec.data.dataset,
            "caviar.metric": spec.objective.metric,
            "caviar.data_fingerprint": study.user_attrs.get(FINGERPRINT, ""),
            "caviar.parent": parent_name(study) or "",
            "caviar.warm_start": "" if warm is None else warm.source,
        },
    )


def open_checkpoints(home: Home, study: optuna.Study) -> CheckpointStore:
    """Return the study's checkpoints."""
    return CheckpointStore(home.checkpoints / study.user_attrs.get(STUDY_UID, study.study_name))


def new_study_attributes(facts: DatasetFacts) -> dict[str, Any]:
    """Return what is kept on a new study about its data and itself."""
    return {
        FINGERPRINT: facts.fingerprint,
        "data": f"{facts.name}: {facts.n_train} train, {facts.n_validation} validation, "
        f"{facts.n_classes} classes, features {facts.feature_shape}",
        GUESS: {"n_examples": facts.n_validation, "accuracy": facts.majority, "loss": facts.entropy},
        STUDY_UID: uuid.uuid4().hex,
        ENVIRONMENT: json.dumps(environment_versions()),
    }
