"""Runs written straight into SQLite are what MLflow's own client would have written, and MLflow reads them."""

import datetime
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from caviar.record import MlflowMirror, TrialRecord, prepare_tracking
from caviar.record.data_set import StudyData
from caviar.record.mlflow_private import REVISIONS, mlflow_revisions
from caviar.record.shared_view import VIEW_TAG, load_view
from caviar.record.tracking import connect

from .conftest import MakeTrial, build_trial

NOW_S = datetime.datetime(2026, 11, 22, 12, 30).timestamp()  # noqa: DTZ001
HYPERPARAMETERS = {"learning_rate": 0.01, "momentum": 0.9, "depth": 2, "batch_norm": "none"}

DATA = StudyData(name="digits", fingerprint="0123456789abcdef" * 4, summary="1,437 train, 360 validation")

_RECORD_AT_ONCE = """
import sys
from caviar.record import MlflowMirror, TrialRecord
from tests.record.conftest import build_trial
records = [
    TrialRecord(trial=build_trial(number), hyperparameters={"depth": 2}, curves={"loss": [1.0, 0.5]})
    for number in range(40)
]
mirror = MlflowMirror(sys.argv[1], study_name="toy", artifact_location="file:///nowhere")
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 40, 4):
    mirror.record_many(records[start : start + 4])
print(sorted(mirror.missed), mirror.missing_trials(record.trial for record in records))
print(mirror.experiment_link("http://host") is not None, "mlflow" in sys.modules)
"""


def make_mirror(tracking_uri: str, **options: Any) -> MlflowMirror:
    settings: dict[str, Any] = {"study_name": "toy", "artifact_location": "file:///art%20ifacts", **options}
    return MlflowMirror(tracking_uri, clock=lambda: NOW_S, **settings)


def by_client(tracking_uri: str) -> str:
    """Return the same store's address in a way that leaves it to MLflow's client."""
    return f"{tracking_uri}?timeout=20"


def make_records(trials: Sequence[FrozenTrial], *, n_epochs: int = 3) -> list[TrialRecord]:
    return [
        TrialRecord(
            trial=trial,
            hyperparameters=HYPERPARAMETERS,
            curves={
                "loss": [1 / (1 + trial.number + epoch) for epoch in range(n_epochs)],
                "val_accuracy": [0.5, float("nan"), float("inf"), 0.25][:n_epochs],
            },
            tags={"caviar.worker": f"w{trial.number}"},
        )
        for trial in trials
    ]


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def everything(path: Path) -> dict[str, list[str]]:
    """Return every row of every table, sorted, runs and experiments by name, without the time of creation."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in tables}
    for row in rows["experiments"]:
        row["creation_time"] = row["last_update_time"] = None
    text = {name: [json.dumps(row, sort_keys=True) for row in found] for name, found in rows.items()}
    for run in rows["runs"]:
        run_name = f"{run['name']} {run['lifecycle_stage']}"
        text = {name: [line.replace(run["run_uuid"], run_name) for line in lines] for name, lines in text.items()}
    for table, key in (("datasets", "dataset_uuid"), ("inputs", "input_uuid")):
        for place, row in enumerate(sorted(rows[table], key=str)):
            named = f"{table} {place}" if table == "datasets" else table
            text = {name: [line.replace(row[key], named) for line in lines] for name, lines in text.items()}
    return {name: sorted(lines) for name, lines in text.items()}


def test_every_table_is_as_mlflows_client_leaves_it(empty_store: Path, tmp_path: Path) -> None:
    states = [*TrialState, TrialState.RUNNING, TrialState.RUNNING]
    first = [build_trial(number, state=state) for number, state in enumerate(states)]
    then = [build_trial(number, state=TrialState.COMPLETE, value=0.1 * number) for number in range(1, len(states))]
    tags = {"caviar.dataset": "digits", "caviar.metric": "val_loss"}
    left = []
    for name in ("straight", "client"):
        path = Path(shutil.copy(empty_store, tmp_path / f"{name}.db"))
        uri = f"sqlite:///{path}" if name == "straight" else by_client(f"sqlite:///{path}")
        mirror = make_mirror(uri, study_uid="uid", experiment_tags=tags, data=DATA)
        mirror.record_many(make_records(first, n_epochs=2))
        after_first = everything(path)
        mirror.record_many(make_records(then, n_epochs=4))
        assert not mirror.missed
        left.append((after_first, everything(path)))
    (straight_first, straight), (client_first, client) = left
    assert straight_first == client_first
    assert straight == client
    assert len(straight["metrics"]) > 20
    assert (len(straight["datasets"]), len(straight["inputs"])) == (1, len(states))


def test_installed_mlflow_has_the_tables_that_were_compared() -> None:
    """Where this fails MLflow is a newer one: if the test above passes, add its revision."""
    revisions = mlflow_revisions()
    assert revisions is not None
    assert revisions[0] in REVISIONS


def test_mlflow_reads_what_was_written(tracking_uri: str) -> None:
    mirror = make_mirror(tracking_uri)
    mirror.record_many(make_records([build_trial(number, value=number / 100) for number in range(70)]))
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], "params.depth = '2' AND metrics.value > 0.6", order_by=["metrics.value DESC"]
    )
    assert [run.info.run_name for run in runs] == [f"toy #{number}" for number in range(69, 60, -1)]
    assert runs[0].info.status == "FINISHED"
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (70 + step)) for step in range(3)]
    view = load_view(experiment.tags[VIEW_TAG])
    assert view is not None
    assert view.curves == ("val_accuracy", "loss")


def test_run_that_a_killed_writer_left_half_written_is_completed(tracking_uri: str) -> None:
    mirror = make_mirror(tracking_uri)
    experiment_id = mirror.experiment_id()
    assert experiment_id is not None
    client = connect(tracking_uri)
    half = client.create_run(experiment_id, tags={"caviar.study": "toy", "caviar.trial_number": "0"})
    client.log_metric(half.info.run_id, "loss", 7.0, timestamp=1, step=0)
    client.log_param(half.info.run_id, "depth", "9")
    assert mirror.missing_trials([build_trial()]) == [0]
    mirror.record_many(make_records([build_trial()]))
    [run] = client.search_runs([experiment_id])
    assert run.info.run_id == half.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["depth"] == "9"  # MLflow lets no parameter be changed
    assert [point.value for point in client.get_metric_history(half.info.run_id, "loss")] == [7.0, 0.5, 1 / 3]
    assert mirror.missing_trials([build_trial()]) == []


def test_a_trial_recorded_twice_in_one_call_has_one_run(tracking_uri: str) -> None:
    mirror = make_mirror(tracking_uri)
    mirror.record_many(
        make_records([build_trial(state=TrialState.RUNNING)], n_epochs=1) + make_records([build_trial()])
    )
    client, experiment_id = connect(tracking_uri), mirror.experiment_id()
    assert experiment_id is not None
    [run] = client.search_runs([experiment_id])
    assert run.info.status == "FINISHED"
    assert sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss")) == [0, 1, 2]


def test_what_mlflow_would_cut_is_left_to_its_client(tracking_uri: str, make_trial: MakeTrial) -> None:
    long, plain = (make_trial(number) for number in range(2))
    mirror = make_mirror(tracking_uri)
    mirror.record_many(
        [
            TrialRecord(trial=long, hyperparameters={"layers": "64," * 3000}, curves={}),
            TrialRecord(trial=plain, hyperparameters={}, curves={}),
        ]
    )
    assert not mirror.missed
    experiment_id = mirror.experiment_id()
    assert experiment_id is not None
    runs = connect(tracking_uri).search_runs([experiment_id], order_by=["attributes.start_time ASC"])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert len(runs[0].data.params["layers"]) == 6000


@pytest.mark.parametrize("reason", ["tables of an unknown MLflow", "rule that the statements break"])
def test_what_does_not_fit_is_left_to_mlflows_client(
    tracking_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    if reason == "tables of an unknown MLflow":
        monkeypatch.setattr("caviar.record.sqlite_runs.REVISIONS", frozenset())
    else:
        when = "WHEN NEW.end_time IS NOT NULL BEGIN SELECT RAISE (ABORT, 'no'); END"
        execute(tmp_path / "mlflow.db", f"CREATE TRIGGER rule BEFORE INSERT ON runs {when}")
    mirror = make_mirror(tracking_uri)
    trials = [build_trial(number) for number in range(3)]
    for _ in range(2):
        mirror.record_many(make_records(trials))
    assert not mirror.missed
    assert mirror.missing_trials(trials) == []
    said = [record.getMessage() for record in caplog.records if "which this version does not know" in record.message]
    assert len(said) == (reason == "tables of an unknown MLflow")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///file:x.db?mode=ro&uri=true", "postgresql://h/db"])
def test_other_stores_are_left_to_mlflows_client(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(tracking_uri: str, **_: object) -> MlflowClient:
        asked.append(tracking_uri)
        raise ConnectionRefusedError("nobody is there")

    monkeypatch.setattr("caviar.record.mlflow_mirror.connect", refuse)
    mirror = make_mirror(uri)
    mirror.record_many(make_records([build_trial(0), build_trial(1)]))
    assert asked == [uri]  # once: the store is left alone for a while
    assert mirror.missed == {0, 1}


def test_locked_database_fails_no_trial_and_leaves_no_half(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("caviar.record.sqlite_runs.BUSY_TIMEOUT_S", 0.01)
    now_s = NOW_S
    mirror = MlflowMirror(tracking_uri, study_name="toy", artifact_location="file:///nowhere", clock=lambda: now_s)
    records = make_records([build_trial(number) for number in range(4)])
    mirror.record_many(records[:1])
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        mirror.record_many(records)
        other.execute("ROLLBACK")
    assert mirror.missed == {0, 1, 2, 3}
    assert "could not record 4 trials: database is locked" in caplog.text
    now_s += 61
    assert mirror.missing_trials([record.trial for record in records]) == [1, 2, 3]
    mirror.record_many(records)
    assert not mirror.missed
    assert mirror.missing_trials([record.trial for record in records]) == []


def test_processes_that_write_the_same_trials_at_once_make_one_run_of_each(tracking_uri: str) -> None:
    prepare_tracking(tracking_uri)
    command = [sys.executable, "-W", "error", "-c", _RECORD_AT_ONCE, tracking_uri]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=100) for process in processes]
    assert outputs == [("[] []\nTrue False\n", "")] * 2  # and none of them imported mlflow
    client = connect(tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(f"toy #{number}" for number in range(40))
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 2 for run in runs[:5])
