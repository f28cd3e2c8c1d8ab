"""A study's experiment in MLflow: found, created, described, and moved out of the way."""

import datetime
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from .run_content import STUDY_TAG, STUDY_UID_TAG, StudyIdentity
from .shared_view import SharedView, dump_view

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

_logger = logging.getLogger(__name__)

_NOTE_TAG: Final = "mlflow.note.content"
_NOTE_BEGINS: Final = "Mirror of the Optuna study"


def open_experiment(client: "MlflowClient", study: StudyIdentity, *, now_s: float) -> "Experiment":
    """Return the study's experiment, created where there is none, its tags brought up to date.

    One of this name in MLflow's trash, which forbids a new one, is renamed there.
    """
    experiment = client.get_experiment_by_name(study.name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        trash_experiment(client, experiment, now_s=now_s)
        experiment = None
    if experiment is None:
        experiment = _create_experiment(client, study)
    for key, value in wanted_tags(study, experiment.tags).items():
        if experiment.tags.get(key) != value:
            set_tag(client, experiment.experiment_id, key, value)
    return experiment


def set_tag(client: "MlflowClient", experiment_id: str, key: str, value: str) -> None:
    """Set an experiment's tag, which other workers may be setting: MLflow 3.17 lets one of two first writers fail."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException:
        if client.get_experiment(experiment_id).tags.get(key) is None:
            raise
        client.set_experiment_tag(experiment_id, key, value)


def trash_experiment(client: "MlflowClient", experiment: "Experiment", *, now_s: float) -> None:
    """Delete an experiment under another name; MLflow keeps it, and its name, until ``mlflow gc``.

    One that is in the trash already comes back for a moment: MLflow renames no other.
    """
    moment = datetime.datetime.fromtimestamp(now_s, tz=datetime.UTC)
    name = f"{experiment.name} (deleted {moment:%Y-%m-%d %H:%M:%S} UTC, id {experiment.experiment_id})"
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    client.rename_experiment(experiment.experiment_id, name)
    client.delete_experiment(experiment.experiment_id)
    _logger.info("MLflow's experiment %r is in its trash, named %r.", experiment.name, name)


def wanted_tags(study: StudyIdentity, present: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that describe the study on its experiment, which has those that are present.

    An experiment that somebody else made keeps its kind and its description.
    """
    described = "".join(f"\n- {key}: `{value}`" for key, value in study.tags.items())
    tags = {
        STUDY_TAG: study.name,
        "mlflow.experimentKind": "custom_model_development",  # else the page takes it for one about agents
        _NOTE_TAG: (
            f"{_NOTE_BEGINS} **{study.name}**: one run a trial, one step an epoch. "
            "FINISHED is Optuna's COMPLETE, KILLED its PRUNED. "
            "`value` is what Optuna ranks complete trials by; `best_value` is the best epoch's, of pruned trials too. "
            f"`caviar sync {study.name}` fills what is missing here.\n{described}"
        ),
        **study.tags,
    }
    if not present.get(_NOTE_TAG, _NOTE_BEGINS).startswith(_NOTE_BEGINS):
        tags = {key: present.get(key, value) if key.startswith("mlflow.") else value for key, value in tags.items()}
    if study.uid:
        uid = present.get(STUDY_UID_TAG, study.uid)
        if uid != study.uid:
            _logger.warning(
                "MLflow's experiment %r holds the runs of another study of this name. The new runs stand beside "
                "them, told apart by their tag %s; rename the old experiment to have them apart.",
                study.name,
                STUDY_UID_TAG,
            )
        tags[STUDY_UID_TAG] = uid
    return tags


def view_tag(view: SharedView, study: StudyIdentity) -> str:
    """Return the view as the experiment's tag; the page then begins with the study's best trial."""
    return dump_view(view, ascending=study.tags.get("caviar.metric", "").endswith("loss"))


def _create_experiment(client: "MlflowClient", study: StudyIdentity) -> "Experiment":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment(client.create_experiment(study.name, study.artifact_location))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(study.name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return experiment  # another process was faster
