"""The pages that show a study, opened in a real browser: do they say what the study is?"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState

from caviar.record import MlflowMirror

from .conftest import MakeTrial

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_START_S = 60.0

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], *, ready: str, environment: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Run a server until the block ends, from when it says that it is ready."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=cwd,
        start_new_session=True,
    )
    deadline = threading.Timer(_START_S, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if ready in line:
                break
        else:
            pytest.fail(f"{command[0]} did not start within {_START_S:.0f} s:\n{''.join(said)}")
        deadline.cancel()
        yield
    finally:
        deadline.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # the server and its workers, in a session of their own
        process.communicate(timeout=30)


def open_page(address: str, profile: Path) -> str:
    """Return the page as it stands once its scripts are done: virtual time waits for what they fetch."""
    assert _CHROMIUM is not None
    result = subprocess.run(
        [
            _CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "--window-size=1600,1200",
            "--virtual-time-budget=10000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


def missing(page: str, *texts: str) -> list[str]:
    return [text for text in texts if text not in page]


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
    comparison = mirror.compare_link(server, [0, 1, 2])
    assert charts is not None
    assert comparison is not None
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", server.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri, "--default-artifact-root", str(tmp_path / "mlartifacts")]
    light = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, ready="Application startup complete", environment=light, cwd=tmp_path):
        page = open_page(charts, tmp_path / "profile")
        names = ("toy #0", "toy #1", "toy #2", "Complete trials, by value", "All trials, by epoch", "val_accuracy")
        assert missing(page, *names, "learning_rate_log10", "batch_norm") == []
        assert page.index("toy #2") < page.index("toy #0") < page.index("toy #1")  # by value; a pruned one has none
        assert "Error loading shared view state" not in page
        table = open_page(charts.replace("compareRunsMode=CHART&", ""), tmp_path / "profile")
        assert missing(table, "caviar.state", "COMPLETE", "PRUNED", "best_value", "momentum", "learning_rate") == []
        page = open_page(comparison, tmp_path / "profile")
        assert missing(page, "Comparing 3 Runs", "Parallel Coordinates Plot", "toy #1", "one_minus_momentum") == []


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
        page = open_page(address, tmp_path / "profile")
        assert missing(page, "toy (id=1)", "History", "Hyperparameter Importance", "learning_rate", "depth") == []
        page = open_page(f"{address}/trials?numbers=0", tmp_path / "profile")
        assert missing(page, "Trial 0", "Complete", "learning_rate", "Artifacts", "network.txt") == []
