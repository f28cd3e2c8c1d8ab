"""A study's report in MLflow: files of one of its runs, the best trial's, and of no other."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .mlflow_private import delete_artifacts

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: On the run that holds the report; its value is the folder.
REPORT_TAG = "caviar.report"
_FOLDER = "report"


def move_report(
    client: "MlflowClient", runs: "Mapping[int, Sequence[Run]]", *, number: int, files: Sequence[Path]
) -> bool:
    """Put files into a run's ``report`` folder, and remove that of every other run that has one.

    A run of its own would stand among the trials in every table and chart, and a second report beside the first.

    Args:
        client: Of the store.
        runs: The study's, by trial number.
        number: Whose run gets the files.
        files: Whose names are kept; those of the same name are replaced.

    Returns:
        False where the trial has no run.
    """
    if not runs.get(number):
        return False
    target = runs[number][0]
    for path in files:
        client.log_artifact(target.info.run_id, str(path), _FOLDER)
    client.set_tag(target.info.run_id, REPORT_TAG, _FOLDER)
    for run in (run for found in runs.values() for run in found):
        if run.info.run_id != target.info.run_id and REPORT_TAG in run.data.tags:
            _remove(run)
            client.delete_tag(run.info.run_id, REPORT_TAG)
    return True


def _remove(run: "Run") -> None:
    """Delete a run's report. MLflow's client only adds artifacts; its repositories delete them too.

    Not in a directory: there MLflow 3.17 unquotes the path twice, and would delete elsewhere (in ``aA`` for ``a%41``).
    """
    parts = urlsplit(run.info.artifact_uri)
    if parts.scheme in ("", "file"):
        shutil.rmtree(Path(unquote(parts.path)) / _FOLDER, ignore_errors=True)
        return
    delete_artifacts(run.info.artifact_uri, _FOLDER)
