"""MLflow as teams have it: a server behind HTTP, with experiments of its own, a password, and bad days."""

import base64
import datetime
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from caviar.record import MlflowMirror, TrialRecord
from caviar.record.background import BackgroundMirror, in_background
from caviar.record.data_set import StudyData
from caviar.record.tracking import connect

from .conftest import START, build_trial
from .remote import Proxy, mlflow_server

pytestmark = pytest.mark.slow

DATA = StudyData(name="digits", fingerprint="0123456789abcdef" * 4, summary="1,437 train")
NOW_S = (START + datetime.timedelta(hours=1)).timestamp()
SECRET = "s3cret-pass"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("server")
    store = shutil.copy(empty_store, directory / "server.db")
    with mlflow_server(directory, store=f"sqlite:///{store}") as port:
        yield port


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    yield proxy
    proxy.close()


@pytest.fixture
def study(request: pytest.FixtureRequest) -> str:
    """Return a name that no other test's experiment has."""
    return str(request.node.name)[:60].replace("[", ".").strip("]")


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # other tests may keep this machine busy
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def records(*numbers: int, state: TrialState = TrialState.COMPLETE, n_epochs: int = 3) -> list[TrialRecord]:
    return [
        TrialRecord(
            trial=build_trial(number, state=state),
            hyperparameters={"learning_rate": 0.01, "depth": 2},
            curves={"loss": [1.0, 0.5, 0.25][:n_epochs]},
            tags={"caviar.worker": "host:1"},
        )
        for number in numbers
    ]


def make_mirror(uri: str, study: str, **options: Any) -> MlflowMirror:
    return MlflowMirror(uri, study_name=study, study_uid="u", data=DATA, clock=lambda: NOW_S, **options)


def read_runs(uri: str, study: str) -> list[Run]:
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def content(uri: str, study: str) -> list[Any]:
    """Return what is shown of each run: all but ids, and where artifacts are."""
    client = connect(uri)
    return [
        (
            run.info.run_name,
            (run.info.status, run.info.start_time, run.info.end_time),
            (run.data.params, run.data.tags, run.inputs and run.inputs.to_dictionary()),
            {
                key: sorted((p.step, p.value, p.timestamp) for p in client.get_metric_history(run.info.run_id, key))
                for key in run.data.metrics
            },
        )
        for run in read_runs(uri, study)
    ]


def test_a_server_is_shown_what_a_file_is_shown(proxy: Proxy, study: str, tracking_uri: str) -> None:
    for uri in (proxy.url, tracking_uri):
        mirror = make_mirror(uri, study, artifact_location=None if uri == proxy.url else "file:///art")
        mirror.record_many(records(0, 1, state=TrialState.RUNNING, n_epochs=1))
        mirror.record_many(records(0) + records(1, state=TrialState.PRUNED) + records(2, state=TrialState.FAIL))
        assert not mirror.missed
    assert content(proxy.url, study) == content(tracking_uri, study)
    proxy.requests.clear()
    assert make_mirror(proxy.url, study).fill(records(0)) == 0
    assert not [one for one in proxy.requests if "create" in one or "log" in one or "update" in one]


def test_an_experiment_of_the_team_keeps_its_own(proxy: Proxy, study: str, tmp_path: Path) -> None:
    client = MlflowClient(proxy.url)
    location = (tmp_path / "team").as_uri()
    experiment_id = client.create_experiment(study, location, tags={"mlflow.note.content": "Ours.", "team": "vision"})
    client.create_run(experiment_id, run_name="by hand")
    mirror = make_mirror(proxy.url, study)
    mirror.record_many(records(0, 1))
    page = tmp_path / "toy.html"
    page.write_text("a report")
    assert mirror.attach_report(0, [page])
    assert (tmp_path / "team").rglob("toy.html")
    experiment = client.get_experiment(experiment_id)
    assert (experiment.tags["mlflow.note.content"], experiment.tags["team"]) == ("Ours.", "vision")
    assert not mirror.rename_experiment("elsewhere")
    assert mirror.delete_experiment()
    assert [run.info.run_name for run in read_runs(proxy.url, study)] == ["by hand"]


def test_a_report_moves_where_the_server_passes_artifacts_on(proxy: Proxy, study: str, tmp_path: Path) -> None:
    mirror = make_mirror(proxy.url, study)
    mirror.record_many(records(0, 1))
    page = tmp_path / "toy.html"
    page.write_text("a report")
    assert mirror.attach_report(0, [page])
    assert mirror.attach_report(1, [page])
    client, (first, second) = connect(proxy.url), read_runs(proxy.url, study)
    assert client.list_artifacts(first.info.run_id) == []
    assert [file.path for file in client.list_artifacts(second.info.run_id, "report")] == ["report/toy.html"]


@pytest.mark.parametrize("kind", ["password", "token"])
def test_a_server_that_asks_who_comes_is_told_and_nobody_else_is(
    kind: str, proxy: Proxy, study: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    basic = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    proxy.accepted = f"Basic {basic}" if kind == "password" else f"Bearer {SECRET}"
    refused = make_mirror(proxy.url, study)
    with caplog.at_level(logging.DEBUG):
        refused.record_many(records(0))
        assert refused.missed == {0}
        if kind == "password":
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
        let_in = make_mirror(proxy.url, study)
        let_in.record_many(records(0))
        assert not let_in.missed
    assert "401" in caplog.text
    shown = str([run.to_dictionary() for run in read_runs(proxy.url, study)])
    for secret in (SECRET, basic):
        assert secret not in caplog.text
        assert secret not in shown


def test_who_records_does_not_wait_for_a_server_that_dawdles(proxy: Proxy, study: str) -> None:
    mirror = make_mirror(proxy.url, study)
    proxy.open.clear()
    background = BackgroundMirror(mirror, most_waiting=2)
    background.record_many(records(0, state=TrialState.RUNNING))
    assert proxy.came.wait(60)  # the thread hangs in its first request
    for number in range(1, 5):  # which nobody notices here; three find no place
        background.record_many(records(number))
    background.record_many(records(0))
    background.close(timeout_s=0.0)
    proxy.open.set()
    background.close(timeout_s=60.0)
    filled = make_mirror(proxy.url, study)
    filled.fill(records(*range(5)))
    assert [run.info.status for run in read_runs(proxy.url, study)] == ["FINISHED"] * 5


def test_what_waits_is_written_before_the_end(proxy: Proxy, study: str) -> None:
    with in_background(make_mirror(proxy.url, study), drain_s=120.0) as background:
        assert background is not None
        background.record_many(records(0, state=TrialState.RUNNING, n_epochs=1))
        background.record_many(records(0) + records(1))
    assert [run.info.status for run in read_runs(proxy.url, study)] == ["FINISHED"] * 2


def test_a_server_that_was_away_is_filled(
    proxy: Proxy, study: str, tracking_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = make_mirror(proxy.url, study)
    mirror.record_many(records(0) + records(1, state=TrialState.RUNNING, n_epochs=1))
    proxy.is_away = True
    mirror.record_many(records(1, 2))
    mirror.record_many(records(3))
    assert mirror.missed == {1, 2, 3}
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1
    proxy.is_away = False
    assert make_mirror(proxy.url, study).fill(records(*range(4))) == 3
    make_mirror(tracking_uri, study, artifact_location="file:///art").fill(records(*range(4)))
    there, here = ([run[:1] + run[2:] for run in content(uri, study)] for uri in (proxy.url, tracking_uri))
    assert [run[:2] for run in there] == [run[:2] for run in here]
