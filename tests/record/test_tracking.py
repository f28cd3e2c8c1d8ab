import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from caviar.errors import StorageError
from caviar.record import prepare_tracking
from caviar.record.tracking import prepare_template
from tests.postgresql import Server

_PREPARE_AND_RECORD = """
import sys, optuna
from caviar.record import MlflowMirror, prepare_tracking
uri, number = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
prepare_tracking(uri)
mirror = MlflowMirror(uri, study_name="toy")
trial = optuna.trial.create_trial(value=0.5)
trial.number = number
mirror.record(trial, hyperparameters={}, curves={"loss": [1.0]})
print(sorted(mirror.missed), mirror.missing_trials([trial]))
"""


def _journal_mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def _prepare_twice_at_once(uri: str, *options: str) -> list[tuple[str, str]]:
    """Have two processes prepare a store and record a trial each; return what they print."""
    processes = [
        subprocess.Popen(
            [sys.executable, *options, "-c", _PREPARE_AND_RECORD, uri, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return [process.communicate("go\n", timeout=100) for process in processes]


@pytest.mark.slow
def test_processes_that_prepare_a_fresh_store_at_once_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "home" / "mlflow.db"
    assert _prepare_twice_at_once(f"sqlite:///{path}", "-W", "error") == [("[] []\n", "")] * 2
    assert _journal_mode(path) == "wal"
    assert {entry.name for entry in path.parent.iterdir()} <= {
        "mlflow.db",
        "mlflow.db.lock",
        "mlflow.db-wal",
        "mlflow.db-shm",
    }


@pytest.mark.slow
def test_processes_that_fill_a_fresh_postgresql_store_at_once_all_succeed(postgresql: Server) -> None:
    with postgresql.database() as uri:
        outputs = _prepare_twice_at_once(uri)
    assert [printed for printed, _ in outputs] == ["[] []\n"] * 2, outputs


def test_prepared_store_is_left_as_it_is(tracking_uri: str, tmp_path: Path) -> None:
    before = (tmp_path / "mlflow.db").read_bytes()
    prepare_tracking(tracking_uri)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "databricks", "sqlite://", "postgresql://host/db"])
def test_other_stores_are_left_alone(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_tracking(uri)
    assert list(tmp_path.iterdir()) == []


def test_optunas_database_is_refused(tmp_path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    with pytest.raises(StorageError, match=r"optuna\.db is an Optuna database; .* break each other"):
        prepare_tracking(f"sqlite:///{tmp_path / 'optuna.db'}")


def test_a_kind_of_store_that_mlflow_lacks_is_refused() -> None:
    with pytest.raises(StorageError, match=r"no store of the kind 'htpp'\. Give --tracking-uri .* http://HOST:PORT"):
        prepare_tracking("htpp://localhost:5000")


def test_database_of_something_else_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match=r"not one of MLflow's: it has the tables recipes"):
        prepare_tracking(f"sqlite:///{tmp_path / 'other.db'}")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("learning rate 0.1 was too high\n" * 200)
    with pytest.raises(StorageError, match=r"notes\.txt cannot be used: file is not a database"):
        prepare_tracking(f"sqlite:///{tmp_path / 'notes.txt'}")


def test_home_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot be used: .*File exists.* --home"):
        prepare_tracking(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
def test_read_only_store_is_refused(tracking_uri: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").chmod(0o444)
    with pytest.raises(StorageError, match="cannot be used"):
        prepare_tracking(tracking_uri)


@pytest.mark.slow
def test_a_fresh_store_is_a_copy_of_one_that_the_user_s_cache_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (f"sqlite:///{tmp_path / name / 'mlflow.db'}" for name in ("one", "two"))
    prepare_template(first)
    assert not (tmp_path / "one").exists()
    prepare_tracking(first)
    monkeypatch.setattr("caviar.record.tracking._migrate", lambda path: pytest.fail(f"migrated {path} anew"))
    prepare_tracking(second)
    assert _journal_mode(tmp_path / "two" / "mlflow.db") == "wal"
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.slow
def test_a_store_is_made_without_a_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    prepare_tracking(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    assert _journal_mode(tmp_path / "home" / "mlflow.db") == "wal"
