"""What surrounds a call of caviar: its directory, its streams, its environment, its secrets."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial

from caviar.cli import main
from caviar.commands.delete import describe_deletion
from caviar.commands.pages import pages_command
from caviar.commands.run import check_runnable, dry_run_lines
from caviar.commands.status import status_lines, study_status
from caviar.commands.trials import list_trials, trials_csv
from caviar.imports import import_module
from caviar.spec import StudySpec, parse_spec
from caviar.storage.addresses import sqlite_path
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study

ROOT = Path(__file__).parent.parent
OWN = """
import os
print("a print while it is imported")
os.system("echo a print below Python")
os.makedirs("elsewhere", exist_ok=True)
os.chdir("elsewhere")

def network(hyperparameters, dataset):
    import keras
    print("a print of a trial")
    shape = keras.Input(dataset.feature_shape)
    return keras.Sequential([shape, keras.layers.Dense(dataset.n_classes, activation="softmax")])
"""
STUDY = """
name = "toy"
[data]
dataset = "tests.toy_data:blobs"
[objective]
epochs = 2
network = "own:network"
[search]
trials = 2
sampler = "random"
pruner = "none"
[space]
learning_rate = { low = 1e-3, high = 0.5, scale = "log" }
value = { low = 1, high = 9 }
"rate (%)" = { low = 0.1, high = 0.9 }
"""


def call(*arguments: str, directory: Path, arguments_of_python: tuple[str, ...] = ("-m", "caviar")) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "plugin"), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *arguments_of_python, *arguments],
        capture_output=True,
        text=True,
        cwd=directory,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_module_that_prints_and_changes_directory_among_files_called_as_pythons_own(tmp_path: Path) -> None:
    for name in ("random", "socket", "tempfile", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file beside was run')")
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "toy.toml").write_text(STUDY)
    ran = call("run", "toy.toml", "--home", "runs", "--json", directory=tmp_path)
    assert ran.returncode == 0, ran.stderr
    state = json.loads(ran.stdout)
    assert state["trials"]["complete"] == 2
    for noise in ("a print while it is imported", "a print below Python", "a print of a trial"):
        assert noise in ran.stderr
    assert Path(state["best"]["network"]).is_relative_to(tmp_path / "runs" / "networks")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    rows = json.loads(call("trials", "toy", "--home", "runs", "--json", directory=tmp_path).stdout)
    assert all(row["params_value"] in range(1, 10) and 0 < row["value"] <= 1 for row in rows)
    synced = call("sync", "toy", "--home", "runs", "--json", directory=tmp_path)
    assert json.loads(synced.stdout) == {"filled": 0, "failed": 0}


def test_what_others_print_goes_to_stderr(tmp_path: Path) -> None:
    code = (
        "import atexit, os; from caviar.cli.session import take_stdout; results = take_stdout(); print('noise');"
        "os.system('echo below'); atexit.register(print, 'at exit'); print('result', file=results)"
    )
    printed = call("-c", code, directory=tmp_path, arguments_of_python=())
    assert printed.stdout == "result\n"
    assert sorted(printed.stderr.split("\n")) == ["", "at exit", "below", "noise"]


def test_the_present_directory_comes_behind_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_module_of_ones_own.py").write_text("import colorsys as it_needs\nvalue = 3")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('the file beside was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert import_module("a_module_of_ones_own").value == 3
    import_module("a_module_of_ones_own")
    assert sys.path.count(str(tmp_path)) == 1
    monkeypatch.delitem(sys.modules, "a_module_of_ones_own")


def test_workers_start_where_the_run_did_whatever_a_module_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_wanderer.py").write_text("import os\nos.chdir('/')\ndef network(hyperparameters, dataset): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    objective = {"network": "a_wanderer:network"}
    check_runnable(parse_spec({"name": "toy", "data": {"dataset": "digits"}, "objective": objective}))
    assert Path.cwd() == tmp_path
    monkeypatch.delitem(sys.modules, "a_wanderer")


def test_relative_directories_of_the_environment_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", "data")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    CliRunner().invoke(main, ["status", "toy", "--home", str(tmp_path)])
    assert os.environ["TFDS_DATA_DIR"] == str(tmp_path / "data")
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "cache")


@pytest.fixture
def own_spec() -> StudySpec:
    space = {
        "learning_rate": {"low": 1e-3, "high": 0.5, "scale": "log"},
        **{name: {"low": 1, "high": 9} for name in ("value", "state", "epochs", "fail_reason")},
    }
    objective = {"network": "tests.toy_data:own_network"}
    return parse_spec({"name": "toy", "data": {"dataset": "digits"}, "objective": objective, "space": space})


@pytest.fixture
def home(prepared_home: Path, own_spec: StudySpec) -> Home:
    """A home with a study of one trial."""
    home = locate_home(prepared_home)
    study = create_study(open_storage(home.storage, owner=new_owner(), create=True), own_spec, attributes={})
    names = ("value", "state", "epochs", "fail_reason")
    study.add_trial(
        create_trial(
            value=0.5,
            params={"learning_rate": 0.1, **dict.fromkeys(names, 7)},
            distributions={
                "learning_rate": FloatDistribution(1e-3, 0.5, log=True),
                **{name: IntDistribution(1, 9) for name in names},
            },
        )
    )
    return home


def test_parameters_of_ones_own_leave_the_columns_of_trials_alone(home: Home) -> None:
    (row,) = list_trials(home, "toy")
    assert (row["value"], row["state"], row["epochs"], row["fail_reason"]) == (0.5, "COMPLETE", 0, None)
    assert [row[f"params_{name}"] for name in ("value", "state", "epochs", "fail_reason")] == [7, 7, 7, 7]
    header, line = trials_csv([row]).splitlines()
    assert header.split(",").count("value") == 1
    assert line.startswith("0,COMPLETE,0.5,")


def test_no_verb_shows_a_password(home: Home, own_spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(home.storage, owner=new_owner())
    opened = (storage, optuna.load_study(study_name="toy", storage=storage))
    secret = dataclasses.replace(
        home,
        storage="postgresql://ann:s3cret@host/studies?sslpassword=s3cret",
        tracking_uri="https://ann:s3cret@host/mlflow?token=s3cret",
    )
    for verb in ("status", "delete"):
        monkeypatch.setattr(f"caviar.commands.{verb}.open_existing", lambda *_: opened)
    monkeypatch.setattr("caviar.commands.run.plan_warm_start", lambda *_, **__: None)
    state = study_status(secret, "toy")
    shown = [
        json.dumps(state),
        *status_lines(state),
        *dry_run_lines(own_spec, secret, source=None, fresh=False),
        describe_deletion(secret, "toy"),
    ]
    assert [line for line in shown if "s3cret" in line] == []
    assert "storage postgresql://***@host/studies?sslpassword=***" in shown
    assert "tracking https://***@host/mlflow?token=***" in shown


def test_a_traceback_shows_no_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot connect to postgresql://ann:s3cret@host/studies")

    monkeypatch.setattr("caviar.commands.status.study_status", fail)
    result = CliRunner().invoke(main, ["status", "toy", "--home", str(home.path)])
    assert result.exit_code == 1
    assert "RuntimeError: cannot connect to postgresql://***@host/studies" in result.stderr
    assert "s3cret" not in result.output


def test_pages_of_a_home_of_any_name(home: Home, tmp_path: Path) -> None:
    odd = locate_home(home.path.rename(tmp_path / "José %41{b}?# x"))
    dashboard = pages_command(odd, "dashboard")
    assert dashboard[-3:-1] == ["--artifact-dir", str(odd.artifacts)]
    assert optuna.get_all_study_names(dashboard[-1]) == ["toy"]
    mlflow = pages_command(odd, "mlflow")
    uri = mlflow[mlflow.index("--backend-store-uri") + 1]
    assert sqlite_path(uri) == odd.path / "mlflow.db"
    assert mlflow[-2:] == ["--default-artifact-root", (odd.path / "mlartifacts").as_uri()]


@pytest.mark.parametrize("name", ["..", ".", "../../precious", "/etc", ""])
def test_a_study_of_any_name_has_its_networks_below_the_home(tmp_path: Path, name: str) -> None:
    home = locate_home(tmp_path)
    assert Path(os.path.normpath(home.networks_of(name))).parent == home.networks
    assert home.networks_of("toy.archived-1") == home.networks / "toy.archived-1"
