"""The report in a real browser: as a file, in MLflow's tab of artifacts, in optuna-dashboard."""

import re
import shutil
from pathlib import Path

import optuna
import pytest
from tests.browser import BROWSER, free_port, open_page, serving, serving_mlflow
from tests.insight.synthetic import DATA, make_spec, make_study

from caviar.attributes import CHILDREN, PARENT
from caviar.commands.report import WrittenReport, report_study
from caviar.record.mlflow_mirror import MlflowMirror
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study

pytestmark = BROWSER


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tracking_template: Path) -> Home:
    """A home with a study of some trials, the best one in MLflow, and a zoom of it; every test only reads it."""
    path = tmp_path_factory.mktemp("report") / "runs"
    path.mkdir()
    shutil.copy(tracking_template, path)
    home = locate_home(path)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    for name, attributes in (("toy", {CHILDREN: ["toy-zoom-1"]}), ("toy-zoom-1", {PARENT: "toy"})):
        spec = make_spec(name=name)
        study = create_study(storage, spec, attributes={"data": DATA, "caviar:uid": name})
        for key, value in attributes.items():
            study.set_user_attr(key, value)
        study.add_trials(make_study(spec, n_complete=24, n_pruned=6).get_trials())
    artifacts = (home.path / "mlartifacts").as_uri()
    mirror = MlflowMirror(home.tracking_uri, study_name="toy", study_uid="toy", artifact_location=artifacts)
    mirror.record(optuna.load_study(study_name="toy", storage=storage).best_trial, hyperparameters={}, curves={})
    return home


@pytest.fixture(scope="module")
def written(home: Home) -> WrittenReport:
    return report_study(home, "toy")


def test_every_picture_of_the_page_is_drawn(written: WrittenReport, tmp_path: Path) -> None:
    assert isinstance(written.html, Path)
    page = open_page(written.html.as_uri(), tmp_path / "profile")
    places = re.split(r'data-figure="', page)[1:]
    assert [place.partition('"')[0] for place in places if 'class="main-svg"' in place] == [
        *("history", "curves", "fit", "parallel", "slices", "importance", "search", "zooms", "timeline")
    ]


def test_mlflow_shows_the_page_in_the_best_run_and_lets_its_scripts_draw(
    home: Home, written: WrittenReport, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(home.tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.caviar.trial_number = '{written.in_mlflow}'")
    server = f"http://127.0.0.1:{free_port()}"
    with serving_mlflow(server, tracking_uri=home.tracking_uri, cwd=tmp_path):
        address = f"{server}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/report/toy.html"
        page = open_page(address, tmp_path / "profile", "report/toy.html", "toy.json", "<iframe")
    (frame,) = re.findall(r"<iframe[^>]*>", page)
    assert ('src="blob:' in frame, 'sandbox="allow-scripts"' in frame) == (True, True), frame


def test_optuna_dashboard_shows_the_note_the_artifact_and_the_pictures_of_the_search(
    home: Home, written: WrittenReport, tmp_path: Path
) -> None:
    port = free_port()
    pictures = ("The whole search, from coarse to fine", "What each study searched", "toy-zoom-1")
    command = ["optuna-dashboard", "--host", "127.0.0.1", "--port", str(port), "--artifact-dir", str(home.artifacts)]
    with serving([*command, home.storage], ready="Booting worker", environment={}, cwd=tmp_path):
        address = f"http://127.0.0.1:{port}/dashboard/studies"
        profile = tmp_path / "profile"
        open_page(f"{address}/1", profile, *pictures, "Importance against the course", written.html.name)
        open_page(f"{address}/2", profile, *pictures)
        search = "One search, from coarse to fine"
        note = open_page(f"{address}/1/note", profile, "Report of", "What to try next", search)
        open_page(f"{address}/2/note", profile, search, 'href="/dashboard/studies/1"')
    assert "caviar report:" not in note
