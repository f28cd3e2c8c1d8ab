"""Opens what belongs to a study: its mirror in MLflow and its checkpoints; and gives its seed."""

import json

import optuna

from ..attributes import DATA, ENVIRONMENT, FINGERPRINT, PARENT, SAMPLING_SEED, STUDY_UID
from ..record.data_set import StudyData
from ..record.mlflow_mirror import MlflowMirror
from ..record.tracking import DATABASES
from ..search.warm_start import warm_start_of
from ..spec import StudySpec
from ..storage.addresses import store_kind
from ..storage.checkpoints import CheckpointStore
from ..storage.home import Home


def sampling_seed(study: optuna.Study, spec: StudySpec) -> int:
    """Return the seed of a study's draws: its file's, or its own if it was made from another study."""
    return int(study.user_attrs.get(SAMPLING_SEED, spec.seed))


def open_mirror(home: Home, study: optuna.Study, spec: StudySpec) -> MlflowMirror:
    """Return the study's mirror in MLflow, which opens nothing before its first use."""
    warm = warm_start_of(study)
    is_database = store_kind(home.tracking_uri) in DATABASES
    fingerprint = study.user_attrs.get(FINGERPRINT, "")
    data = StudyData(name=spec.data.dataset, fingerprint=fingerprint, summary=study.user_attrs.get(DATA, ""))
    versions = json.loads(study.user_attrs.get(ENVIRONMENT, "null"))
    return MlflowMirror(
        home.tracking_uri,
        study_name=study.study_name,
        study_uid=study.user_attrs.get(STUDY_UID, ""),
        # Where there is no server to place them, MLflow would make a directory in whichever is the current one.
        artifact_location=(home.mlflow_artifacts.as_uri() if is_database else None),
        experiment_tags={
            "caviar.dataset": spec.data.dataset,
            "caviar.metric": spec.objective.metric,
            "caviar.data_fingerprint": fingerprint,
            "caviar.version": (versions or {}).get("optuna-caviar", ""),
            "caviar.parent": study.user_attrs.get(PARENT) or "",
            "caviar.warm_start": "" if warm is None else warm.source,
        },
        versions=versions,
        data=data if fingerprint else None,
    )


def open_checkpoints(home: Home, study: optuna.Study) -> CheckpointStore:
    """Return the study's checkpoints."""
    return CheckpointStore(home.checkpoints / study.user_attrs.get(STUDY_UID, study.study_name))
