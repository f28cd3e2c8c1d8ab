"""A trial's run in MLflow: found again, created once, given what it lacks; and the study's report, in one of them."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .data_set import StudyData
from .mlflow_private import delete_artifacts
from .run_content import FINAL_STATUSES, STUDY_TAG, STUDY_UID_TAG, TRIAL_NUMBER_TAG, RunContent, StudyIdentity

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_PAGE = 1000  # runs a search returns at once, some 3 kB each; MLflow's own limit is 50,000
#: On the run that holds the report; its value is the folder.
_REPORT_TAG = "caviar.report"
_FOLDER = "report"


@dataclasses.dataclass(kw_only=True)
class KnownRun:
    """A run and what it holds, so that nothing is written twice."""

    run_id: str
    status: str
    params: set[str]  # their names; MLflow lets none be changed
    tags: dict[str, str]
    points: set[tuple[str, int]]  # metric and step of every value
    has_data: bool  # whether it names its data set


def list_runs(
    client: "MlflowClient", experiment_id: str, *, study_uid: str, number: int | None = None
) -> "dict[int, list[Run]]":
    """Return a study's runs by trial number, of each trial the oldest first; one search, page by page.

    Runs that carry another study's uid are left out; with a number, so are those of other trials.
    """
    where = "" if number is None else f"tags.`{TRIAL_NUMBER_TAG}` = '{number}'"
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    runs: dict[int, list[Run]] = {}
    for run in _search(client, experiment_id, where, order_by=order):
        trial_number = run.data.tags.get(TRIAL_NUMBER_TAG, "")
        if trial_number.isdecimal() and _may_be_of(run, study_uid):
            runs.setdefault(int(trial_number), []).append(run)
    return runs


def split_runs(client: "MlflowClient", experiment_id: str, *, study: StudyIdentity) -> tuple[list[str], bool]:
    """Return the ids of an experiment's runs that are the study's, and whether it holds any that are not."""
    own: list[str] = []
    has_others = False
    for run in _search(client, experiment_id):
        if not run.data.tags.keys().isdisjoint((STUDY_TAG, TRIAL_NUMBER_TAG)) and _may_be_of(run, study.uid):
            own.append(run.info.run_id)
        else:
            has_others = True
    return own, has_others


def _search(
    client: "MlflowClient", experiment_id: str, where: str = "", *, order_by: list[str] | None = None
) -> "Iterator[Run]":
    """Yield an experiment's runs, page by page."""
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], where, max_results=_PAGE, order_by=order_by, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _may_be_of(run: "Run", study_uid: str) -> bool:
    """Tell whether a run carries no other study's uid; an empty one is nobody's."""
    uid = run.data.tags.get(STUDY_UID_TAG, "")
    return not uid or not study_uid or uid == study_uid


def find_run(client: "MlflowClient", experiment_id: str, *, study_uid: str, number: int) -> KnownRun | None:
    """Return a trial's run with what it holds, or None; of several, which two processes made at once, one is left."""
    found = list_runs(client, experiment_id, study_uid=study_uid, number=number).get(number)
    if not found:
        return None
    for double in found[1:]:
        client.delete_run(double.info.run_id)
    known = _known(found[0])
    for key in found[0].data.metrics:
        known.points.update((key, point.step) for point in client.get_metric_history(known.run_id, key))
    return known


def create_run(client: "MlflowClient", experiment_id: str, content: RunContent) -> KnownRun:
    """Create a trial's run, which holds its tags and nothing else yet."""
    tags = {**content.first_tags, **content.tags}
    return _known(client.create_run(experiment_id, start_time=content.start_ms, run_name=content.name, tags=tags))


def _known(run: "Run") -> KnownRun:
    params, tags = set(run.data.params), dict(run.data.tags)
    has_data = any(given.dataset.digest for given in run.inputs.dataset_inputs) if run.inputs else False
    return KnownRun(
        run_id=run.info.run_id, status=run.info.status, params=params, tags=tags, points=set(), has_data=has_data
    )


def is_whole(run: "Run", content: RunContent) -> bool:
    """Tell whether a run, as a search has it, lacks nothing; its final status alone says that of the curves' middles.

    What was read of a trial before it ended is no reason to change a run that shows its end.
    """
    if content.end_ms is None and run.info.status in FINAL_STATUSES:
        return True
    latest = {point.key: point.value for point in sorted(content.points, key=lambda point: point.step)}
    return (
        run.info.status == content.status
        and content.params.keys() <= run.data.params.keys()
        and content.tags.items() <= run.data.tags.items()
        and latest.items() <= run.data.metrics.items()
        and (content.data is None or _known(run).has_data)
    )


def fill_run(client: "MlflowClient", run: KnownRun, content: RunContent) -> bool:
    """Write what the run lacks, its status last of all: a run with its final status is whole.

    MLflow's client cuts what is logged to the 1,000 metrics that its server takes at once.

    Returns:
        Whether it lacked something.
    """
    from mlflow.entities import Metric, Param, RunTag

    if content.end_ms is None and run.status in FINAL_STATUSES:
        return False  # the trial was read before it ended, and somebody else wrote its end meanwhile
    new = [point for point in content.points if (point.key, point.step) not in run.points]
    metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in new]
    params = [Param(key, value) for key, value in content.params.items() if key not in run.params]
    tags = [RunTag(key, value) for key, value in content.tags.items() if run.tags.get(key) != value]
    data = None if run.has_data else content.data
    changed = bool(metrics or params or tags or data is not None or run.status != content.status)
    if metrics or params or tags:
        client.log_batch(run.run_id, metrics=metrics, params=params, tags=tags)
    run.points.update((point.key, point.step) for point in new)
    run.params.update(content.params)
    run.tags.update(content.tags)
    if data is not None:
        _log_data(client, run.run_id, data)
        run.has_data = True
    if run.status != content.status:
        if content.end_ms is None:
            client.update_run(run.run_id, status=content.status)  # it is open, or open again
        else:
            client.set_terminated(run.run_id, content.status, content.end_ms)
        run.status = content.status
    return changed


def _log_data(client: "MlflowClient", run_id: str, data: StudyData) -> None:
    """Name a run's data set, at a second attempt if need be.

    Where the first trials of two workers end at once, both store the data set, and the later one is refused
    (``duplicate key value violates unique constraint "dataset_pk"``). Then it is there.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, datasets=[data.as_input()])
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":  # what MLflow makes of an integrity error
            raise
        client.log_inputs(run_id, datasets=[data.as_input()])


def move_report(
    client: "MlflowClient",
    runs: "Mapping[int, Sequence[Run]]",
    *,
    number: int,
    files: Sequence[Path],
    tracking_uri: str,
) -> bool:
    """Put files into the ``report`` folder of a trial's run, and remove that of every other run that has one.

    A run of its own would stand among the trials in every table and chart, and a second report beside the first. Files
    keep their names, and replace those of the same name. The runs are the study's, by trial number.

    Returns:
        False where the trial has no run.
    """
    if not runs.get(number):
        return False
    target = runs[number][0].info.run_id
    for path in files:
        client.log_artifact(target, str(path), _FOLDER)
    client.set_tag(target, _REPORT_TAG, _FOLDER)
    for run in (run for found in runs.values() for run in found):
        if run.info.run_id != target and _REPORT_TAG in run.data.tags:
            _remove_report(run.info.artifact_uri, tracking_uri=tracking_uri)
            client.delete_tag(run.info.run_id, _REPORT_TAG)
    return True


def _remove_report(artifact_uri: str, *, tracking_uri: str) -> None:
    """Delete a run's report, which MLflow's client cannot: a directory by ourselves, all else by its repository.

    In a directory, MLflow 3.17 unquotes the path twice, and would delete elsewhere (in ``aA`` for ``a%41``).
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme in ("", "file"):
        shutil.rmtree(Path(unquote(parts.path)) / _FOLDER, ignore_errors=True)
    else:
        delete_artifacts(artifact_uri, _FOLDER, tracking_uri=tracking_uri)
