"""The pages that show a study, opened in a real browser: do they say what the study is?"""

from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState

from caviar.record import MlflowMirror
from tests.browser import BROWSER, free_port, open_page, serving, serving_mlflow

from .conftest import MakeTrial

pytestmark = BROWSER


def test_mlflow_shows_names_states_and_log_axes(tracking_uri: str, make_trial: MakeTrial, tmp_path: Path) -> None:
    mirror = MlflowMirror(tracking_uri, study_name="toy")
    for number, state in enumerate([TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]):
        mirror.record(
            make_trial(number, state=state, value=0.5 + number / 10),
            hyperparameters={"learning_rate": 0.01, "momentum": 0.9, "depth": 2, "batch_norm": "none"},
            curves={"val_accuracy": [0.2, 0.5 + number / 10], "val_loss": [2.0, 1.0]},
        )
    server = f"http://127.0.0.1:{free_port()}"
    charts = mirror.experiment_link(server)
    assert charts is not None
    with serving_mlflow(server, tracking_uri=tracking_uri, cwd=tmp_path):
        names = ("toy #0", "toy #1", "toy #2", "Complete trials, by value", "All trials, by epoch", "val_accuracy")
        page = open_page(charts, tmp_path / "profile", *names, "learning_rate_log10", "batch_norm")
        assert page.index("toy #2") < page.index("toy #0") < page.index("toy #1")  # by value; a pruned one has none
        assert "Error loading shared view state" not in page
        columns = ("caviar.state", "COMPLETE", "PRUNED", "best_value", "momentum", "learning_rate")
        open_page(charts.replace("compareRunsMode=CHART&", ""), tmp_path / "profile", *columns)


def test_optuna_dashboard_shows_the_study_and_its_artifacts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = optuna.create_study(study_name="toy", storage=url, sampler=optuna.samplers.RandomSampler(seed=0))
    store = FileSystemArtifactStore(str(tmp_path))
    (tmp_path / "network.txt").write_text("64-64-10")

    def objective(trial: optuna.Trial) -> float:
        upload_artifact(artifact_store=store, file_path=str(tmp_path / "network.txt"), study_or_trial=trial)
        trial.report(0.4, 0)
        return trial.suggest_float("learning_rate", 1e-4, 1.0, log=True) + trial.suggest_int("depth", 1, 4)

    study.optimize(objective, n_trials=3)
    port = free_port()
    command = ["optuna-dashboard", "--host", "127.0.0.1", "--port", str(port), "--artifact-dir", str(tmp_path), url]
    with serving(command, ready="Booting worker", environment={}, cwd=tmp_path):
        address = f"http://127.0.0.1:{port}/dashboard/studies/1"
        drawn = ("toy (id=1)", "History", "Hyperparameter Importance", "learning_rate", "depth")
        open_page(address, tmp_path / "profile", *drawn)
        trial = ("Trial 0", "Complete", "learning_rate", "Artifacts", "network.txt")
        open_page(f"{address}/trials?numbers=0", tmp_path / "profile", *trial)
