"""Whole studies on PostgreSQL, MLflow's store too: run and looked at, and no password anywhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from click.testing import CliRunner

from caviar.cli import main
from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.storage.home import locate_home
from tests.postgresql import Server, closing_connections
from tests.processes import Watch, running, running_here, wait_until, write_study
from tests.service.asgi import AppClient, calling
from tests.test_storm import assert_sound

pytestmark = pytest.mark.slow


class Places:
    """A home, and two databases of its own: Optuna's and MLflow's, both empty at first."""

    def __init__(self, home: Path, storage: str, tracking_uri: str) -> None:
        self.home, self.storage, self.tracking_uri = home, storage, tracking_uri
        self.options = ("--home", home, "--storage", storage, "--tracking-uri", tracking_uri)
        self.watch = Watch(home, storage=storage, tracking_uri=tracking_uri)
        self.password = str(sqlalchemy.make_url(storage).password)

    def call(self, *arguments: str) -> str:
        """Call a verb in this process, and return all that it prints."""
        result = CliRunner().invoke(main, [*arguments, *map(str, self.options)])
        assert result.exit_code == 0, result.output
        return result.stdout + result.stderr


@pytest.fixture
def places(postgresql: Server, tmp_path: Path) -> Iterator[Places]:
    with postgresql.database() as storage, postgresql.database() as tracking_uri:
        yield Places(tmp_path / "runs", storage, tracking_uri)


def files_with(text: str, directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def processes_with(text: str) -> list[list[str]]:
    """Return the command lines, as everybody on the machine sees them, that hold a text."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if any(text in argument for argument in line)]


def read_pages(client: AppClient) -> dict[str, str]:
    """Return what the service shows: every page and answer that its pages lead to, and both dashboards' first words."""
    pages: dict[str, str] = {}
    paths = ["/", "/v1/studies", "/v1/studies/toy", "/dashboard/api/studies", "/mlflow/", "/openapi.json"]
    while paths and len(pages) < 40:
        path = paths.pop(0)
        answer = client.get(path)
        pages[path] = f"{answer.headers}{answer.text}"
        if "text/html" in answer.headers.get("content-type", ""):
            links = re.findall(r'href="(/[^"#?]*)"', answer.text)
            paths.extend(link for link in dict.fromkeys(links) if link not in pages and link not in paths)
    return pages


def test_studies_run_on_fresh_databases_and_nothing_shows_their_password(places: Places, tmp_path: Path) -> None:
    watch, said = places.watch, {}
    file = write_study(tmp_path, trials=6, workers=2, trainer="solo", epochs=4)
    with running("run", file, *places.options) as process:
        wait_until(lambda: watch.reported() >= 1)
        shown = processes_with(places.password)
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert shown == []
    assert_sound(watch, budget=6)
    said["run"] = ended.stdout + ended.stderr
    for verb in ("status", "report", "sync"):
        said[verb] = places.call(verb, "toy")
    said["doctor"] = places.call("doctor")
    home = locate_home(places.home, storage=places.storage, tracking_uri=places.tracking_uri)
    with calling(make_app(ServiceSettings(home=home))) as client:
        said |= read_pages(client)
    assert len(said) > 12
    file = write_study(tmp_path, trials=6, workers=2, trainer="fleet", epochs=4)
    with running_here("run", file, "--fresh", *places.options) as fleets:
        ended = fleets.finish()
    assert ended.exit_code == 0, ended.stderr
    said["fresh"] = ended.stdout + ended.stderr
    again = Watch(places.home, storage=places.storage, tracking_uri=places.tracking_uri)
    assert_sound(again, budget=6)
    assert all(len(trial.intermediate_values) == 4 for trial in again.trials())
    assert [place for place, text in said.items() if places.password in text] == []
    assert files_with(places.password, places.home) == []
    runs = [run.to_dictionary() for run in (*watch.runs(), *again.runs())]
    attributes = [(trial.user_attrs, trial.system_attrs) for trial in again.trials()]
    assert places.password not in str((runs, attributes, again.study.user_attrs))
    assert all("/mlartifacts/" in run["info"]["artifact_uri"] for run in runs)


def test_closing_what_psycopg_opened_leaves_what_another_thread_may_use(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with closing_connections():
        connection = engine.connect()
    with connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()
