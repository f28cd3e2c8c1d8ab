"""Opens what belongs to a study: its mirror in MLflow and its checkpoints; and gives its seed."""

import json

import optuna

from ..attributes import DATA, ENVIRONMENT, FINGERPRINT, PARENT, SAMPLING_SEED, STUDY_UID
from ..record.data_set import StudyData
from ..record.mlflow_mirror import MlflowMirror
from ..search.stages import plan_of_study
from ..search.warm_start import warm_start_of
from ..spec import StudySpec
from ..storage.checkpoints import CheckpointStore
from ..storage.home import Home
from .mirroring import Mirroring


def sampling_seed(study: optuna.Study, spec: StudySpec) -> int:
    """Return the seed of a study's draws: its file's, or its own if it was made from another study."""
    return int(study.user_attrs.get(SAMPLING_SEED, spec.seed))


def open_mirror(home: Home, study: optuna.Study, spec: StudySpec) -> MlflowMirror:
    """Return the study's mirror in MLflow, which opens nothing before its first use."""
    warm = warm_start_of(study)
    local = home.tracking_uri.startswith("sqlite:")
    fingerprint = study.user_attrs.get(FINGERPRINT, "")
    data = StudyData(name=spec.data.dataset, fingerprint=fingerprint, summary=study.user_attrs.get(DATA, ""))
    versions = json.loads(study.user_attrs.get(ENVIRONMENT, "null"))
    return MlflowMirror(
        home.tracking_uri,
        study_name=study.study_name,
        study_uid=study.user_attrs.get(STUDY_UID, ""),
        artifact_location=(home.mlflow_artifacts.as_uri() if local else None),
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


def mirroring_of(study: optuna.Study, spec: StudySpec) -> Mirroring:
    """Return what MLflow is shown of a study's trials."""
    plan = plan_of_study(study, spec.search)
    shifted = None if plan is None else plan.among(study.get_trials(deepcopy=False))
    return Mirroring(space=spec.space, metric=spec.objective.metric, plan=shifted)


def open_checkpoints(home: Home, study: optuna.Study) -> CheckpointStore:
    """Return the study's checkpoints."""
    return CheckpointStore(home.checkpoints / study.user_attrs.get(STUDY_UID, study.study_name))
