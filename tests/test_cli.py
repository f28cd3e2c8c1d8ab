import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import optuna
import pytest
from click.testing import CliRunner, Result

from caviar.cli import main
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study

from .processes import running, wait_until

ROOT = Path(__file__).parent.parent
STUDY = """# A study that trains in a second.
name = "toy"
[data]
dataset = "tests.toy_data:blobs"
[objective]
epochs = 3
[search]
trials = 4
sampler = "random"
pruner = "median"
pruner_options = { n_startup_trials = 1 }
[space]
learning_rate = { low = 1e-3, high = 0.5, scale = "log" }
momentum = { low = 0.5, high = 0.99, scale = "log-complement" }
depth = 1
units = 8
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def caviar(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def succeed(*arguments: str | Path, text: str | None = None) -> Result:
    result = caviar(*arguments, text=text)
    assert result.exit_code == 0, result.output
    return result


def status(home: Path, study: str | Path = "toy") -> dict[str, Any]:
    state: dict[str, Any] = json.loads(succeed("status", study, "--home", home, "--json").stdout)
    return state


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the study once, in a process of its own: copying a database that this one has open would drop its locks."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "toy.toml").write_text(STUDY)
    with running("run", directory / "toy.toml", "--home", directory / "runs", warm=True) as process:
        assert process.finish().exit_code == 0
    return directory / "runs"


@pytest.fixture
def finished(finished_once: Path, home: Path) -> Path:
    shutil.copytree(finished_once, home)
    return home


@pytest.mark.slow
def test_a_study_runs_resumes_and_grows(study_file: Path, home: Path) -> None:
    first = succeed("run", study_file, "--home", home)
    assert "toy: 4 of 4 trials done" in first.stdout
    assert "4/4" in first.stderr
    assert "best" in first.stderr

    state = status(home)
    assert state["trials"]["complete"] + state["trials"]["pruned"] == state["budget"] == 4
    assert {"study", "metric", "direction", "budget", "trials", "best", "workers", "storage", "tracking_uri"} <= set(
        state
    )
    assert (state["metric"], state["direction"], state["workers"]) == ("val_accuracy", "maximize", [])

    again = succeed("run", study_file, "--home", home)
    assert "is finished: all 4 trials are done, so nothing was run" in again.stderr
    grown = succeed("run", study_file, "--home", home, "--trials", "6", "--json")
    assert json.loads(grown.stdout)["trials"]["complete"] + json.loads(grown.stdout)["trials"]["pruned"] == 6
    assert status(home, study_file)["budget"] == 6


@pytest.mark.slow
def test_the_best_trial_is_the_same_in_optuna_mlflow_and_status(finished: Path) -> None:
    from mlflow.tracking import MlflowClient

    best = status(finished)["best"]
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{finished / 'optuna.db'}")
    assert (best["number"], best["value"], best["params"]) == (
        *(study.best_trial.number, study.best_value, study.best_params),
    )
    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4
    (run,) = [run for run in runs if run.data.tags["caviar.trial_number"] == str(best["number"])]
    history = [point.value for point in client.get_metric_history(run.info.run_id, "val_accuracy")]
    assert history == list(study.best_trial.intermediate_values.values())
    assert max(history) == best["value"]
    assert float(run.data.params["momentum"]) == pytest.approx(best["hyperparameters"]["momentum"])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_the_best_network_is_kept_as_it_was_at_its_best_epoch(finished: Path) -> None:
    import keras

    from caviar import load_dataset

    best = status(finished)["best"]
    assert best["network"] == str(finished / "networks" / "toy" / f"{best['number']}.keras")
    validation = load_dataset("tests.toy_data:blobs").validation
    probabilities = keras.models.load_model(best["network"]).predict(validation.features, verbose=0)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert (probabilities.argmax(axis=1) == validation.labels).mean() == pytest.approx(best["value"])
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{finished / 'optuna.db'}")
    assert len(list((finished / "artifacts").iterdir())) >= 1
    (artifact,) = optuna.artifacts.get_all_artifact_meta(study.best_trial, storage=study._storage)
    assert artifact.filename == f"{best['number']}.keras"


@pytest.mark.slow
def test_trials_are_listed_as_a_table_csv_and_json(finished: Path) -> None:
    rows = json.loads(succeed("trials", "toy", "--home", finished, "--json").stdout)
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    assert all(0.5 <= row["momentum"] <= 0.99 for row in rows)
    assert len(succeed("trials", "toy", "--home", finished).stdout.splitlines()) == 5
    header, *lines = succeed("trials", "toy", "--home", finished, "--csv").stdout.splitlines()
    assert header.startswith("number,state,value")
    assert len(lines) == 4
    assert caviar("trials", "toy", "--home", finished, "--csv", "--json").exit_code == 2


@pytest.mark.slow
def test_a_changed_study_is_refused_and_fresh_archives_the_old_one(finished: Path, study_file: Path) -> None:
    study_file.write_text(STUDY.replace("epochs = 3", "epochs = 2"))
    refused = caviar("run", study_file, "--home", finished)
    assert refused.exit_code == 2
    assert "objective.epochs: 3 → 2" in refused.stderr
    assert "--fresh" in refused.stderr
    fresh = succeed("run", study_file, "--home", finished, "--fresh")
    assert "The previous study was renamed to 'toy.archived-1'" in fresh.stderr
    names = optuna.get_all_study_names(f"sqlite:///{finished / 'optuna.db'}")
    assert sorted(names) == ["toy", "toy.archived-1"]
    assert status(finished, "toy.archived-1")["best"] is not None
    again = caviar("run", study_file, "--home", finished, "--set", "data.validation_fraction=0.3")
    assert (again.exit_code, "data.validation_fraction: 0.2 → 0.3" in again.stderr) == (2, True)


@pytest.mark.slow
def test_deleting_asks_first(finished: Path) -> None:
    kept = caviar("delete", "toy", "--home", finished, text="n\n")
    assert (kept.exit_code, "'toy' (4 trials)" in kept.stderr, "Nothing was deleted" in kept.stderr) == (1, True, True)
    status(finished)
    succeed("delete", "toy", "--home", finished, "--yes")
    assert caviar("status", "toy", "--home", finished).exit_code == 2
    from mlflow.tracking import MlflowClient

    assert MlflowClient(f"sqlite:///{finished / 'mlflow.db'}").get_experiment_by_name("toy") is None


@pytest.mark.slow
def test_what_mlflow_missed_is_synced_once_it_is_back(study_file: Path, home: Path) -> None:
    down = succeed("run", study_file, "--home", home, "--tracking-uri", "http://127.0.0.1:9")
    assert "MLflow lacks 4 trials; `caviar sync toy` adds them" in down.stderr
    assert status(home)["trials"]["fail"] == 0
    assert "Recorded 4 trials" in succeed("sync", "toy", "--home", home).stdout
    assert "Recorded 0 trials" in succeed("sync", "toy", "--home", home).stdout


@pytest.mark.slow
def test_a_broken_network_fails_its_trials_and_stops_the_study(study_file: Path, home: Path) -> None:
    settings = ["--set", "objective.network=tests.toy_data:broken_network", "--trials", "3"]
    result = caviar("run", study_file, "--home", home, *settings)
    assert result.exit_code == 1
    assert "trials in a row failed, the last with: RuntimeError: a mistake in the user's function" in result.stderr
    state = status(home)
    assert (state["trials"]["fail"], state["trials"]["running"]) == (5, 0)
    assert "a mistake in the user's function" in succeed("trials", "toy", "--home", home).stdout


@pytest.mark.slow
def test_a_network_of_ones_own_is_searched_by_its_own_names(study_file: Path, home: Path) -> None:
    contents = STUDY.replace("epochs = 3", 'epochs = 3\nnetwork = "tests.toy_data:own_network"')
    study_file.write_text(contents.replace("depth = 1\nunits = 8", "width = { low = 4, high = 16 }"))
    succeed("run", study_file, "--home", home)
    assert "width" in status(home)["best"]["hyperparameters"]


@pytest.mark.slow
def test_time_limits_end_a_run_and_the_same_command_goes_on(study_file: Path, home: Path) -> None:
    out_of_time = succeed("run", study_file, "--home", home, "--trials", "500", "--timeout", "1")
    assert "Time is up after" in out_of_time.stderr
    assert status(home)["trials"]["running"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_what_is_done_kept(study_file: Path, home: Path, number: signal.Signals) -> None:
    with running("run", study_file, "--home", home, "--trials", "100000", warm=True) as process:
        wait_until(lambda: re.search(r"toy: [1-9]\d*/", process.stderr()) is not None)
        process.send(number)
        ended = process.finish()
    assert ended.exit_code == 130, ended.stderr
    assert "Interrupted. Finished trials are kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    state = status(home)
    assert state["trials"]["complete"] + state["trials"]["pruned"] >= 1
    assert state["trials"]["running"] == 0


@pytest.mark.slow
def test_check_builds_a_network_and_says_panda_or_caviar(study_file: Path, tmp_path: Path) -> None:
    result = succeed("check", study_file)
    assert "logits (Dense)" in result.stdout
    assert "Caviar: One trial takes about" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.toml"]
    assert json.loads(succeed("check", study_file, "--json").stdout)["approach"] == "caviar"


def test_a_dry_run_says_what_would_run_and_writes_nothing(study_file: Path, home: Path) -> None:
    result = succeed("run", study_file, "--home", home, "--dry-run")
    assert "4 trials of at most 3 epochs, to maximize val_accuracy" in result.stdout
    assert "fleets of a worker's first 4 trials:\nfleet 1: " in result.stdout
    assert not home.exists()


def test_datasets_lists_what_is_there() -> None:
    rows = {row["name"]: row for row in json.loads(succeed("datasets", "--json").stdout)}
    assert rows["digits"]["n_classes"] == 10
    assert "fashion_mnist" in rows
    assert "digits" in succeed("datasets").stdout
    unknown = caviar("datasets", "prepare", "fashion_mnits")
    assert (unknown.exit_code, "fashion_mnist" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("trials = 4", "trails = 4"), "Did you mean 'trials'?"),
        (("trials = 4", 'trials = "4"'), "search.trials must be a whole number, but got '4'"),
        (("low = 1e-3, high = 0.5", "low = 0.5, high = 1e-3"), "low below high"),
        (("low = 1e-3, high = 0.5", "low = 0.0, high = 0.5"), "must be above 0, but got 0.0"),
        (('sampler = "random"', 'sampler = "randm"'), "Did you mean 'random'?"),
        (('sampler = "random"', 'trainer = "flet"'), "Did you mean 'fleet'?"),
        (('pruner = "median"', 'pruner = "medain"'), "Did you mean 'median'?"),
        (("epochs = 3", 'metric = "val_acuracy"'), "Did you mean 'val_accuracy'?"),
        (("tests.toy_data:blobs", "digitz"), "digits"),
        (("tests.toy_data:blobs", "tests.toy_data:blob"), "blobs"),
        (("tests.toy_data:blobs", "no_such_module:blobs"), "no_such_module"),
        (("[search]", "[search"), "not valid TOML"),
        (("n_startup_trials = 1", "n_startup = 1"), "Did you mean 'n_startup_trials'?"),
    ],
)
def test_bad_study_files_end_with_2_a_message_and_nothing_half_created(
    study_file: Path, home: Path, change: tuple[str, str], message: str
) -> None:
    study_file.write_text(STUDY.replace(*change))
    assert study_file.read_text() != STUDY
    result = caviar("run", study_file, "--home", home)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not home.exists()


def test_wrong_homes_and_databases_are_refused_and_left_alone(study_file: Path, home: Path, tmp_path: Path) -> None:
    home.touch()
    unwritable = caviar("run", study_file, "--home", home)
    assert (unwritable.exit_code, "cannot be written" in unwritable.stderr) == (2, True)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    before = other.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    foreign = caviar("run", study_file, "--home", elsewhere, "--storage", f"sqlite:///{other}")
    assert (foreign.exit_code, "something else" in foreign.stderr) == (2, True)
    mlflows = caviar("run", study_file, "--home", elsewhere, "--tracking-uri", f"sqlite:///{other}")
    assert (mlflows.exit_code, str(other) in mlflows.stderr) == (2, True)
    shared = f"sqlite:///{tmp_path / 'both.db'}"
    both = caviar("run", study_file, "--home", elsewhere, "--storage", shared, "--tracking-uri", shared)
    assert (both.exit_code, "cannot share" in both.stderr) == (2, True)
    assert other.read_bytes() == before
    assert not elsewhere.exists()


def test_an_unknown_study_names_the_nearest_and_creates_nothing(home: Path) -> None:
    result = caviar("status", "toy", "--home", home)
    assert (result.exit_code, "There is no study database" in result.stderr) == (2, True)
    assert not home.exists()


def _verbs(group: click.Group, *path: str) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        found.append((" ".join((*path, name)), command))
        if isinstance(command, click.Group):
            found += _verbs(command, *path, name)
    return found


@pytest.mark.parametrize(("verb", "command"), _verbs(main), ids=lambda value: value if isinstance(value, str) else "")
def test_every_verb_has_an_example_and_the_common_options(verb: str, command: click.Command) -> None:
    help_text = succeed(*verb.split(), "--help").stdout
    assert f"  caviar {verb}" in help_text
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--home", "--storage", "--tracking-uri", "--json"} <= options


OWN = """
import os
print("a module that talks")
os.system("echo its child does too")
os.chdir(os.path.dirname(os.path.abspath(__file__)) + "/elsewhere")
from tests.toy_data import blobs, own_network
"""


@pytest.mark.slow
def test_a_module_that_talks_and_walks_disturbs_nothing(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "random.py").write_text("raise SystemExit('this is not the standard library')")
    (tmp_path / "own.py").write_text(OWN)
    contents = STUDY.replace("tests.toy_data:blobs", "own:blobs").replace("trials = 4", "trials = 1")
    contents = contents.replace("epochs = 3", 'epochs = 1\nnetwork = "own:own_network"')
    study_file.write_text(contents.replace("depth = 1\nunits = 8", "width = { low = 4, high = 16 }"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "plugin"), str(ROOT)])}
    command = [sys.executable, "-m", "caviar", "run", "toy.toml", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["trials"]["complete"] == 1
    assert "a module that talks\n" in ran.stderr
    assert "its child does too\n" in ran.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "runs" / "optuna.db").exists()


def test_no_verb_shows_a_password(study_file: Path, home: Path) -> None:
    tracking = ("--home", home, "--tracking-uri", "http://ann:s3cret@127.0.0.1:9")
    plan = ("run", study_file, "--dry-run", "--trainer", "solo")
    planned = succeed(*plan, "--storage", f"sqlite:///{home}.db?password=s3cret", *tracking)
    assert f"storage sqlite:///{home}.db?password=***" in planned.stdout
    assert "tracking http://***@127.0.0.1:9" in planned.stdout
    storage = ("--storage", "postgresql://ann:s3cret@127.0.0.1:9/x?password=s3cret")
    for verb in (("status", "toy", "--json"), ("delete", "toy"), ("sync", "toy"), ("doctor",)):
        answer = caviar(*verb, *storage, *tracking)
        assert "postgresql://ann:***@127.0.0.1:9/x?password=***" in answer.output
        assert "s3cret" not in answer.output


def test_status_and_delete_show_addresses_without_passwords(home: Path) -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "digits"}})
    create_study(open_storage(locate_home(home).storage, owner=new_owner(), create=True), spec, attributes={})
    options = ("--home", home, "--tracking-uri", "http://ann:s3cret@127.0.0.1:9")
    state = succeed("status", "toy", *options, "--json")
    assert json.loads(state.stdout)["tracking_uri"] == "http://***@127.0.0.1:9"
    question = caviar("delete", "toy", *options, text="n\n")
    assert "in MLflow?" in question.stderr
    assert "s3cret" not in state.output + question.output


def test_results_go_to_stdout_and_nothing_else_does(study_file: Path, home: Path) -> None:
    (home.parent / "chatty.py").write_text(
        "from optuna.samplers import RandomSampler as Own\nprint('a module that talks')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home.parent)
        planned = succeed(
            "run", study_file, "--dry-run", "--json", "--home", home, "--set", "search.sampler='chatty:Own'"
        )
    assert "study toy" in json.loads(planned.stdout)[0]
    assert "a module that talks" in planned.stderr
