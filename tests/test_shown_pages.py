"""What a study looks like in other programs' pages, in a real browser: MLflow's, optuna-dashboard's, and its report."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState

from caviar.attributes import CHILDREN, PARENT
from caviar.commands.report import WrittenReport, report_study
from caviar.record.mlflow_mirror import MlflowMirror
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study

from .browser import BROWSER, Browser, serving, serving_mlflow
from .insight.synthetic import DATA, make_spec, make_study
from .ports import free_port
from .record.conftest import build_trial

pytestmark = BROWSER


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tracking_template: Path) -> Home:
    """A home with a study of some trials, the best one in MLflow, and a zoom of it; tests add studies of their own."""
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


@pytest.fixture(scope="module")
def mlflow_pages(home: Home) -> Iterator[str]:
    """The address of MLflow's pages."""
    address = f"http://127.0.0.1:{free_port()}"
    with serving_mlflow(address, tracking_uri=home.tracking_uri, cwd=home.path):
        yield address


@pytest.fixture(scope="module")
def dashboard(home: Home) -> Iterator[str]:
    """The address of optuna-dashboard's list of studies."""
    port = free_port()
    command = ["optuna-dashboard", "--host", "127.0.0.1", "--port", str(port), "--artifact-dir", str(home.artifacts)]
    with serving([*command, home.storage], ready="Booting worker", environment={}, cwd=home.path):
        yield f"http://127.0.0.1:{port}/dashboard/studies"


def test_every_picture_of_the_report_is_drawn(browser: Browser, written: WrittenReport) -> None:
    assert isinstance(written.html, Path)
    pictures = ["history", "curves", "fit", "parallel", "slices", "importance", "search", "zooms", "timeline"]
    browser.open(written.html.as_uri(), *(f'data-figure="{name}"' for name in pictures))
    drawn = "[...document.querySelectorAll('[data-figure]:has(.main-svg)')].map((one) => one.dataset.figure)"
    browser.wait_for(f"{drawn}.length === {len(pictures)}")
    assert browser.driver.execute_script(f"return {drawn}") == pictures


def test_mlflow_shows_the_report_in_the_best_run_and_lets_its_scripts_draw(
    browser: Browser, home: Home, written: WrittenReport, mlflow_pages: str
) -> None:
    client = MlflowClient(home.tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.caviar.trial_number = '{written.in_mlflow}'")
    path = f"experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/report/toy.html"
    page = browser.open(f"{mlflow_pages}/#/{path}", "report/toy.html", "toy.json", "<iframe", 'src="blob:')
    (frame,) = re.findall(r"<iframe[^>]*>", page)
    assert ('src="blob:' in frame, 'sandbox="allow-scripts"' in frame) == (True, True), frame


def test_mlflow_shows_names_states_and_log_axes(browser: Browser, home: Home, mlflow_pages: str) -> None:
    mirror = MlflowMirror(home.tracking_uri, study_name="shown")
    for number, state in enumerate([TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]):
        mirror.record(
            build_trial(number, state=state, value=0.5 + number / 10),
            hyperparameters={"learning_rate": 0.01, "momentum": 0.9, "depth": 2, "batch_norm": "none"},
            curves={"val_accuracy": [0.2, 0.5 + number / 10], "val_loss": [2.0, 1.0]},
        )
    charts = mirror.experiment_link(mlflow_pages)
    assert charts is not None
    names = ("shown #0", "shown #1", "shown #2", "Complete trials, by value", "All trials, by epoch", "val_accuracy")
    page = browser.open(charts, *names, "learning_rate_log10", "batch_norm")
    assert page.index("shown #2") < page.index("shown #0") < page.index("shown #1")  # by value; a pruned one has none
    assert "Error loading shared view state" not in page
    columns = ("caviar.state", "COMPLETE", "PRUNED", "best_value", "momentum", "learning_rate")
    browser.open(charts.replace("compareRunsMode=CHART&", ""), *columns)


def test_optuna_dashboard_shows_the_note_the_report_and_the_pictures_of_the_search(
    browser: Browser, written: WrittenReport, dashboard: str
) -> None:
    pictures = ("The whole search, from coarse to fine", "What each study searched", "toy-zoom-1")
    browser.open(f"{dashboard}/1", *pictures, "Importance against the course", written.html.name)
    browser.open(f"{dashboard}/2", *pictures)
    search = "One search, from coarse to fine"
    note = browser.open(f"{dashboard}/1/note", "Report of", "What to try next", search)
    browser.open(f"{dashboard}/2/note", search, 'href="/dashboard/studies/1"')
    assert "caviar report:" not in note


def test_optuna_dashboard_shows_a_study_and_its_artifacts(
    browser: Browser, home: Home, dashboard: str, tmp_path: Path
) -> None:
    study = optuna.create_study(study_name="shown", storage=home.storage)
    (tmp_path / "network.txt").write_text("64-64-10")

    def objective(trial: optuna.Trial) -> float:
        store = FileSystemArtifactStore(str(home.artifacts))
        upload_artifact(artifact_store=store, file_path=str(tmp_path / "network.txt"), study_or_trial=trial)
        trial.report(0.4, 0)
        return trial.suggest_float("learning_rate", 1e-4, 1.0, log=True) + trial.suggest_int("depth", 1, 4)

    study.optimize(objective, n_trials=3)
    address, name = f"{dashboard}/{study._study_id}", f"shown (id={study._study_id})"
    browser.open(address, name, "History", "Hyperparameter Importance", "learning_rate", "depth")
    browser.open(f"{address}/trials?numbers=0", "Trial 0", "Complete", "learning_rate", "Artifacts", "network.txt")
