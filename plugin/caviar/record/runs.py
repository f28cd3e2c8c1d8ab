"""A trial's run in MLflow: found again, created once, and given what it lacks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .run_content import STUDY_UID_TAG, TRIAL_NUMBER_TAG
from .trial_record import RunContent

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_PAGE = 1000  # runs a search returns at once, some 3 kB each; MLflow's own limit is 50,000


class KnownRun:
    """A run and what it holds, so that nothing is written twice.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's word for its state.
        params: Names of its parameters; MLflow lets none be changed.
        tags: Its tags.
        points: Metric and step of every value.
    """

    def __init__(self, run: "Run", points: Iterable[tuple[str, int]] = ()) -> None:
        """Take over what MLflow returned of a run, and the points read beside it."""
        self.run_id: str = run.info.run_id
        self.status: str = run.info.status
        self.params: set[str] = set(run.data.params)
        self.tags: dict[str, str] = dict(run.data.tags)
        self.points: set[tuple[str, int]] = set(points)


def list_runs(
    client: "MlflowClient", experiment_id: str, *, study_uid: str, number: int | None = None
) -> "dict[int, list[Run]]":
    """Return a study's runs by trial number, of each trial the oldest first; one search, page by page.

    Args:
        client: Of the store.
        experiment_id: The study's experiment.
        study_uid: Runs that carry another study's are left out.
        number: Only this trial's.
    """
    where = "" if number is None else f"tags.`{TRIAL_NUMBER_TAG}` = '{number}'"
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    runs: dict[int, list[Run]] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], where, max_results=_PAGE, order_by=order, page_token=token)
        for run in page:
            trial_number = run.data.tags.get(TRIAL_NUMBER_TAG, "")
            uid = run.data.tags.get(STUDY_UID_TAG, "")
            if trial_number.isdecimal() and (not uid or not study_uid or uid == study_uid):
                runs.setdefault(int(trial_number), []).append(run)
        token = page.token
        if not token:
            return runs


def find_run(client: "MlflowClient", experiment_id: str, *, study_uid: str, number: int) -> KnownRun | None:
    """Return a trial's run with what it holds, or None; of several, which two processes made at once, one is left."""
    found = list_runs(client, experiment_id, study_uid=study_uid, number=number).get(number)
    if not found:
        return None
    for double in found[1:]:
        client.delete_run(double.info.run_id)
    run = found[0]
    return KnownRun(
        run,
        [(key, point.step) for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)],
    )


def create_run(client: "MlflowClient", experiment_id: str, content: RunContent) -> KnownRun:
    """Create a trial's run, which holds its tags and nothing else yet."""
    run = client.create_run(
        experiment_id,
        start_time=content.start_ms,
        run_name=content.name,
        tags={**content.first_tags, **content.tags},
    )
    return KnownRun(run)


def fill_run(client: "MlflowClient", run: KnownRun, content: RunContent) -> None:
    """Write what the run lacks, its status last of all: a run with its final status is whole.

    MLflow's client cuts what is logged to the 1,000 metrics that its server takes at once.
    """
    from mlflow.entities import Metric, Param, RunTag

    new = [point for point in content.points if (point.key, point.step) not in run.points]
    client.log_batch(
        run.run_id,
        metrics=[Metric(point.key, point.value, point.time_ms, point.step) for point in new],
        params=[Param(key, value) for key, value in content.params.items() if key not in run.params],
        tags=[RunTag(key, value) for key, value in content.tags.items() if run.tags.get(key) != value],
    )
    run.points.update((point.key, point.step) for point in new)
    run.params.update(content.params)
    run.tags.update(content.tags)
    _set_status(client, run, content.status, end_ms=content.end_ms)


def _set_status(client: "MlflowClient", run: KnownRun, status: str, *, end_ms: int | None) -> None:
    """Set the run's status if it is another; with an end the run is closed, without it is open again."""
    if run.status == status:
        return
    if end_ms is None:
        client.update_run(run.run_id, status=status)
    else:
        client.set_terminated(run.run_id, status, end_ms)
    run.status = status
