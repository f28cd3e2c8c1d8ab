"""optuna-dashboard and MLflow under the service's address, in its own process."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import optuna
import pytest

from caviar.errors import StorageError
from caviar.record import MlflowMirror
from caviar.service import mounting
from caviar.service.wsgi import WsgiApp
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home

from .serving import Server, serving_caviar


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tracking_template: Path) -> Home:
    """A home with a study that both dashboards show."""
    home = locate_home(tmp_path_factory.mktemp("mounting") / "home")
    home.path.mkdir()
    (home.path / "mlflow.db").write_bytes(tracking_template.read_bytes())
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    study = optuna.create_study(storage=storage, study_name="shown in both")
    study.add_trial(optuna.create_trial(value=1.5))
    mirror = MlflowMirror(
        home.tracking_uri, study_name="shown in both", artifact_location=home.mlflow_artifacts.as_uri()
    )
    mirror.record(study.trials[0], hyperparameters={}, curves={"val_loss": [1.5]})
    return home


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    with serving_caviar(home.path) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.slow
def test_optuna_dashboard_shows_the_homes_studies(client: httpx.Client) -> None:
    answer = client.get("/dashboard", follow_redirects=True)
    assert "Optuna Dashboard" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    studies = client.get("/api/studies").json()["study_summaries"]
    assert [study["study_name"] for study in studies] == ["shown in both"]
    assert client.get(f"{mounting.dashboard_link(1)}").status_code == 200
    assert client.get("/csv/1").text.startswith("Number,State,Value")
    del client.headers["Accept-Encoding"]
    assert client.get("/static/nothing.js").status_code == 404


@pytest.mark.slow
def test_mlflow_shows_the_homes_runs_below_its_prefix(client: httpx.Client) -> None:
    page = client.get("/mlflow", follow_redirects=True)
    assert "MLflow" in page.text
    assert str(page.url).endswith("/mlflow/")
    found = client.get(
        "/mlflow/ajax-api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "shown in both"}
    )
    experiment = found.json()["experiment"]["experiment_id"]
    runs = client.post("/mlflow/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": [experiment]}).json()["runs"]
    assert [run["info"]["status"] for run in runs] == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "experiments/create"),
        ("POST", "runs/create"),
        ("POST", "runs/log-metric"),
        ("POST", "model-versions/create"),
        ("POST", "webhooks"),
        ("DELETE", "registered-models/delete"),
        ("PUT", "../../../mlflow/api/2.0/mlflow-artifacts/artifacts/x"),
    ],
)
def test_mlflows_pages_are_for_looking(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, f"/mlflow/ajax-api/2.0/mlflow/{path}", json={})
    assert (answer.status_code, "for looking" in answer.json()["error"]["message"]) == (403, True)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["assistant/config", "gateway/mlflow/v1/chat/completions", "jobs"])
def test_mlflows_assistant_gateway_and_jobs_are_not_there(client: httpx.Client, path: str) -> None:
    for prefix in ("/mlflow/ajax-api/3.0/mlflow/", "/mlflow/ajax-api/3.0/", "/mlflow/"):
        assert client.get(prefix + path).status_code == 404


@pytest.mark.slow
def test_another_page_of_this_machine_cannot_read_mlflows_answers(client: httpx.Client) -> None:
    answer = client.get("/mlflow/version", headers={"Origin": "http://localhost:3000"})
    assert answer.text == "3.17.2"
    assert not any(name.startswith("access-control-") for name in answer.headers)


@pytest.mark.slow
def test_a_stored_page_runs_as_a_foreign_one(client: httpx.Client) -> None:
    page = {"file": "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", "filename": "page.html"}
    stored = client.post("/api/artifacts/1", json=page).json()
    answer = client.get(f"/artifacts/1/{stored['artifact_id']}", headers={"Origin": "https://evil.example"})
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_an_untried_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "VERSIONS", {"mlflow": "9.", "optuna-dashboard": "9."})
    with pytest.raises(StorageError, match=r"the service was tried with 9\.x"):
        mounting._check_version("mlflow")


def test_a_store_without_pages_is_told(tmp_path: Path) -> None:
    home = locate_home(tmp_path, tracking_uri="databricks://x")
    with pytest.raises(StorageError, match="'databricks'"):
        mounting._mlflow_pages(home)


def test_a_server_of_its_own_is_led_to(tmp_path: Path) -> None:
    home = locate_home(tmp_path, tracking_uri="http://tracking.example:5000")
    app: Any = mounting.Dashboards(home)._mlflow
    answer = ask(app, "GET", "/mlflow/")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://tracking.example:5000/")


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return anyio.run(call)


def anything(_method: str, _path: str) -> bool:
    return True


def echo(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    body = environ["wsgi.input"].read()
    start_response("201 Created", [("Content-Type", "application/json"), ("X-Own", "ä"), ("Date", "never")])
    wanted = {key: value for key, value in environ.items() if isinstance(value, str)}
    yield b""
    yield json.dumps({"environ": wanted, "n": len(body)}).encode()


def test_a_wsgi_program_gets_the_request_and_streams_its_answer() -> None:
    app = WsgiApp(lambda: echo, allowed=anything, headers=lambda _path: {"A": "b", "X-Own": "ours"})
    answer = ask(app, "PUT", "/ä/b?c=%20d", content=b"x" * 3_000_000)
    seen = answer.json()
    assert (answer.status_code, answer.headers["a"], seen["n"]) == (201, "b", 3_000_000)
    assert answer.headers["x-own"] == "ours"
    environ = seen["environ"]
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/ä/b"
    assert (environ["QUERY_STRING"], environ["REQUEST_METHOD"], environ["CONTENT_LENGTH"]) == (
        "c=%20d",
        "PUT",
        "3000000",
    )
    assert environ["HTTP_HOST"] == "localhost"


def test_slow_answers_of_a_dashboard_leave_threads_to_all_others() -> None:
    go_on = threading.Event()

    def wait(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        go_on.wait(20)
        return echo(environ, start_response)

    app = WsgiApp(lambda: wait, allowed=anything)

    async def check() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(50):
                tasks.start_soon(client.get, "/")
            await anyio.wait_all_tasks_blocked()
            try:
                with anyio.fail_after(5):
                    await anyio.to_thread.run_sync(int)
            finally:
                go_on.set()

    anyio.run(check)


def test_a_wsgi_program_is_made_once() -> None:
    made = []

    def make() -> Any:
        made.append(1)
        return echo

    app = WsgiApp(make, allowed=anything)
    for _ in range(2):
        ask(app, "GET", "/")
    assert made == [1]
