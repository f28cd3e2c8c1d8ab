import dataclasses
import datetime
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from tests.databases import claim_ticket

from caviar.attributes import ENVIRONMENT, STUDY_UID
from caviar.cli import main
from caviar.health.doctor import doctor_lines, doctor_report, examine, is_healthy
from caviar.health.findings import Finding
from caviar.health.mending import sync_study
from caviar.record import environment_versions, prepare_tracking
from caviar.spec import StudySpec
from caviar.storage.checkpoints import Checkpoint
from caviar.storage.database import new_owner, open_storage
from caviar.storage.filesystems import Mounts, network_file_system
from caviar.storage.home import Home, address_home, locate_home
from caviar.storage.overview import count_trials
from caviar.storage.studies import create_study
from caviar.storage.tickets import Ticket
from caviar.user_cache import user_cache
from caviar.worker.opening import open_checkpoints

LOCAL = [("/", "ext4")]


@pytest.fixture(scope="module")
def empty_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both databases without a study or run, made once: MLflow's schema takes two seconds."""
    directory = tmp_path_factory.mktemp("stores")
    prepare_tracking(f"sqlite:///{directory / 'mlflow.db'}")
    open_storage(f"sqlite:///{directory / 'optuna.db'}", owner=new_owner(), create=True).engine.dispose()
    return directory


@pytest.fixture
def home(empty_stores: Path, tmp_path: Path) -> Home:
    path = tmp_path / "runs"
    path.mkdir()
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / name, path / name)
    return locate_home(path)


@pytest.fixture
def study(home: Home, spec: StudySpec) -> Iterator[optuna.Study]:
    storage = open_storage(home.storage, owner=new_owner())
    attributes = {STUDY_UID: "uid-of-toy", ENVIRONMENT: json.dumps(environment_versions())}
    yield create_study(storage, spec, attributes=attributes)
    storage.remove_session()
    storage.engine.dispose()


def close(study: optuna.Study) -> None:
    """Close a study's connections; the next use opens new ones."""
    study._storage.remove_session()
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]  # the cache in front of ours


def claim(home: Home, study: optuna.Study) -> Ticket:
    """Claim a trial as a worker does that is never heard of again."""
    storage = open_storage(home.storage, owner=new_owner())
    ticket = claim_ticket(storage, study._study_id, budget=10, lease_s=30, retries=2)
    storage.engine.dispose()
    assert isinstance(ticket, Ticket)
    return ticket


def finish(study: optuna.Study, n_trials: int, *, ended: datetime.datetime | None = None) -> None:
    for _ in range(n_trials):
        trial = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.5)
        trial.datetime_complete = ended or datetime.datetime(2026, 1, 1)  # noqa: DTZ001  (Optuna's times are naive)
        study.add_trial(trial)


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def look(home: Home, *, fix: bool = False, study: str | None = None) -> list[Finding]:
    return examine(home, study, fix=fix, mounts=LOCAL)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return everything below a directory, to be compared; of the index of a log in use, which is memory, its name."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {
        str(path): (b"", 0) if path.name.endswith("-shm") else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
    }


def state_counts(home: Home, study: optuna.Study) -> tuple[int, int, int]:
    storage = open_storage(home.storage, owner=new_owner())
    counts = count_trials(storage, study._study_id)
    storage.engine.dispose()
    return counts[TrialState.WAITING], counts[TrialState.RUNNING], counts[TrialState.FAIL]


def test_a_sound_home_has_no_findings_and_a_missing_one_is_only_noted(home: Home, tmp_path: Path) -> None:
    assert look(home) == []
    assert doctor_lines([], home) == [f"All is well with {home.storage} and {home.tracking_uri}."]
    missing = look(locate_home(tmp_path / "nowhere"))
    assert {finding.severity for finding in missing} == {"note"}
    assert "no home directory" in missing[0].message
    assert is_healthy(missing)
    assert not is_healthy(look(locate_home(tmp_path / "nowhere"), study="toy"))
    assert not (tmp_path / "nowhere").exists()


def zombie(home: Home, study: optuna.Study) -> None:
    claim(home, study)
    execute(
        home.path / "optuna.db",
        "DELETE FROM trial_heartbeats",
        "DELETE FROM trial_system_attributes",
        "UPDATE trials SET datetime_start = '2026-01-01 00:00:00.000000'",
    )


def expired_lease(home: Home, study: optuna.Study) -> None:
    claim(home, study)
    execute(home.path / "optuna.db", "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00.000000'")


def report(home: Home, *, step: int) -> None:
    """Have the study's one trial begin: a death is blamed on no other."""
    execute(
        home.path / "optuna.db",
        "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
        f"SELECT trial_id, {step}, 0.5, 'FINITE' FROM trials",
    )


def old_optuna_schema(home: Home, study: optuna.Study) -> None:
    study._storage.remove_session()
    execute(
        home.path / "optuna.db",
        "UPDATE alembic_version SET version_num = 'v3.0.0.d'",
        "DROP INDEX IF EXISTS trials_study_id_key",
    )


def rollback_journal(home: Home, study: optuna.Study) -> None:
    close(study)
    execute(home.path / "optuna.db", "PRAGMA journal_mode = DELETE")


def missing_run(home: Home, study: optuna.Study) -> None:
    from mlflow.tracking import MlflowClient

    finish(study, 2)
    assert sync_study(home, "toy") == (2, 0)
    client = MlflowClient(home.tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    client.delete_run(client.search_runs([experiment.experiment_id])[0].info.run_id)


def leftover_checkpoint(home: Home, study: optuna.Study) -> None:
    finish(study, 1)
    sync_study(home, "toy")
    open_checkpoints(home, study).save(0, Checkpoint(epochs=3, state={}, notes={}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "severity", "message"),
    [
        (zombie, "problem", r"nobody holds a lease on them: 1 trial \(0\)"),
        (expired_lease, "problem", r"silent for over 30 s: 1 trial \(0\)"),
        (old_optuna_schema, "problem", r"An older Optuna made its tables \(v3.0.0.d"),
        (rollback_journal, "problem", "in 'delete' mode"),
        (missing_run, "problem", r"MLflow lacks, or shows in another state: 1 trial"),
        (leftover_checkpoint, "note", r"Finished trials left checkpoints behind: 1 trial \(0\)"),
    ],
)
def test_what_can_be_mended_is_found_without_writing_mended_and_gone(
    home: Home, study: optuna.Study, break_it: Callable[[Home, optuna.Study], None], severity: str, message: str
) -> None:
    break_it(home, study)
    close(study)
    before = contents(home.path)
    found = only(look(home))
    assert contents(home.path) == before
    assert (found.severity, found.fixable, found.fixed) == (severity, True, False)
    assert re.search(message, found.message), found.message
    mended = only(look(home, fix=True))
    assert (mended.fixed, mended.message) == (True, found.message)
    assert look(home) == []
    assert look(home, fix=True) == []


def test_a_lost_trial_waits_again_and_fails_once_its_worker_died_too_often(home: Home, study: optuna.Study) -> None:
    for step in range(2):
        expired_lease(home, study)
        report(home, step=step)
        assert only(look(home, fix=True)).fixed
        assert state_counts(home, study) == (1, 0, 0)
    expired_lease(home, study)
    look(home, fix=True)
    assert state_counts(home, study) == (0, 0, 1)


def test_a_trial_that_runs_is_left_alone(home: Home, study: optuna.Study) -> None:
    claim(home, study)
    assert look(home, fix=True) == []
    assert state_counts(home, study) == (0, 1, 0)


def test_what_ended_a_moment_ago_is_not_missed_while_workers_are_at_it(home: Home, study: optuna.Study) -> None:
    finish(study, 1, ended=datetime.datetime.now())  # noqa: DTZ005  (Optuna's times are naive)
    claim(home, study)
    assert look(home) == []
    execute(
        home.path / "optuna.db", "UPDATE trials SET datetime_complete = '2026-01-01 00:00:00' WHERE state != 'RUNNING'"
    )
    assert "MLflow lacks" in only(look(home)).message


def test_a_worker_between_two_trials_has_a_moment_to_record_the_one_before(
    home: Home, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(study, 1, ended=datetime.datetime.now())  # noqa: DTZ005  (Optuna's times are naive)
    pauses: list[float] = []

    def record_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        assert sync_study(home, "toy") == (1, 0)

    monkeypatch.setattr("caviar.health.studies.time.sleep", record_meanwhile)
    assert look(home) == []
    assert len(pauses) == 1


def test_an_upgrade_leaves_a_copy_of_what_was_there(home: Home, study: optuna.Study) -> None:
    finish(study, 3)
    sync_study(home, "toy")
    for copy in ("optuna.db.v3.0.0.d.bak", "optuna.db.v3.0.0.d.2.bak"):
        old_optuna_schema(home, study)
        assert only(look(home, fix=True)).fixed
        with closing(sqlite3.connect(home.path / copy)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("v3.0.0.d",)
            assert connection.execute("SELECT count(*) FROM trials").fetchone() == (3,)
    assert not list(home.path.glob("*.new"))
    with closing(sqlite3.connect(home.path / "optuna.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'trials_study_id_key'").fetchone()


def test_newer_tables_and_old_ones_of_mlflow_are_said_but_not_touched(home: Home) -> None:
    execute(home.path / "optuna.db", "UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    execute(home.path / "mlflow.db", "UPDATE alembic_version SET version_num = '0584bdc529eb'")
    newer, older = look(home, fix=True)
    assert "A newer Optuna made its tables (v99.0.0.a" in newer.message
    assert "An older MLflow made its tables (0584bdc529eb" in older.message
    assert f"mlflow db upgrade {home.tracking_uri}" in older.remedy
    assert not newer.fixable
    assert not older.fixable
    execute(home.path / "mlflow.db", "UPDATE alembic_version SET version_num = 'fffffffffff0'")
    assert "A newer MLflow" in look(home)[1].message


def test_mlflows_schema_version_is_read_as_mlflow_wrote_it(home: Home) -> None:
    from caviar.record.mlflow_private import mlflow_revisions

    with closing(sqlite3.connect(home.path / "mlflow.db")) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    revisions = mlflow_revisions()
    assert revisions is not None
    assert revisions[0] == revision


def test_one_file_for_both_is_a_finding(home: Home, study: optuna.Study) -> None:
    both = address_home(home.path, tracking_uri=home.storage)
    finding = only(look(both, fix=True))
    assert "Optuna and MLflow share this file" in finding.message
    assert "--storage and --tracking-uri" in finding.remedy
    execute(home.path / "optuna.db", "CREATE TABLE experiments (id INTEGER)")
    assert "share this file" in only(look(home)).message
    assert "share this file" in only(look(both)).message


def test_databases_of_others_are_named(home: Home) -> None:
    swapped = address_home(home.path, storage=home.tracking_uri, tracking_uri=home.storage)
    optunas, mlflows = look(swapped)
    assert "Give --storage a file of its own" in optunas.remedy
    assert "Give --tracking-uri a file of its own" in mlflows.remedy
    for name in ("optuna.db", "mlflow.db"):
        (home.path / name).unlink()
        execute(home.path / name, "CREATE TABLE customers (id INTEGER)")
    before = contents(home.path)
    findings = look(home, fix=True)
    assert all("something else (its tables: customers)" in finding.message for finding in findings)
    assert len(findings) == 2
    assert contents(home.path) == before


def test_damaged_databases_are_findings(home: Home, study: optuna.Study) -> None:
    finish(study, 50)
    close(study)
    database = home.path / "optuna.db"
    whole = database.read_bytes()
    database.write_bytes(whole[:8192] + b"\xff" * 40960 + whole[49152:])
    (home.path / "mlflow.db").write_bytes(b"no database at all" * 100)
    damaged, text = look(home, fix=True)
    assert "damaged" in damaged.message or "cannot read it" in damaged.message
    assert "sqlite3 optuna.db .recover" in damaged.remedy
    assert "SQLite cannot read it: file is not a database" in text.message
    assert not is_healthy([damaged])


def test_a_locked_database_is_told_from_a_damaged_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.storage.inspection._PATIENCE_S", 0.05)
    execute(home.path / "optuna.db", "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(home.path / "optuna.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "held the database locked" in only(look(home)).message


def test_a_nearly_full_disk_and_a_home_that_cannot_be_written_are_findings(home: Home, tmp_path: Path) -> None:
    full = only(examine(home, mounts=LOCAL, min_free_bytes=10**18))
    assert "The disk is nearly full" in full.message
    assert "bytes" in full.message
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        unwritable = look(locate_home(path))
        assert any("home directory cannot be written" in finding.message for finding in unwritable)
    (home.path / "networks").touch()
    assert str(home.networks) in {finding.subject for finding in look(home) if "cannot be written" in finding.message}
    assert file.read_bytes() == b""


def test_a_network_file_system_is_found_from_the_mounts(home: Home) -> None:
    findings = examine(home, mounts=[*LOCAL, (str(home.path), "nfs4")])
    assert len(findings) == 2
    assert "network file system (nfs4)" in findings[0].message
    assert "PostgreSQL is the way" in findings[0].remedy


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([("/", "ext4"), ("/data", "nfs")], "nfs"),
        ([("/", "nfs4"), ("/data", "xfs")], None),
        ([("/", "ext4"), ("/dat", "nfs")], None),
        ([("/", "ext4"), ("/data", "ext4"), ("/data", "fuse.sshfs")], "fuse.sshfs"),
        ([("/", "ext4"), ("/data/my runs", "cifs")], "cifs"),
        ([], None),
    ],
)
def test_the_nearest_mount_decides(mounts: Mounts, expected: str | None) -> None:
    assert network_file_system(Path("/data/my runs/optuna.db"), mounts=mounts) == expected


def test_leftovers_of_killed_processes_are_found_and_removed(home: Home) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    places = [home.timings, home.path / "checkpoints" / "uid" / "3", home.path, user_cache() / "arrays"]
    of_dead, of_living = (
        [place / f".caviar-writes~{socket.gethostname()}~{pid}~00" for place in places]
        for pid in (process.pid, os.getpid())
    )
    for path in (*of_dead, *of_living):
        path.mkdir(parents=True)
        (path / "file").touch()
    try:
        found = only(look(home))
        assert "left 4 unfinished files behind" in found.message
        assert only(look(home, fix=True)).fixed
        assert look(home) == []
        assert [path.exists() for path in (*of_dead, *of_living)] == [False] * 4 + [True] * 4
    finally:
        shutil.rmtree(of_living[-1])


def test_opening_for_a_run_warns_of_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    partition = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs")
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: [partition])
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    open_storage(url, owner=new_owner(), create=True).engine.dispose()
    assert "PostgreSQL is the way" in only_message(caplog)
    open_storage(url, owner=new_owner()).engine.dispose()  # a worker's opening, one of many
    only_message(caplog)


def only_message(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = [record.getMessage() for record in caplog.records if record.name == "caviar.storage.database"]
    return message


def test_other_versions_than_the_studys_are_noted(home: Home, study: optuna.Study) -> None:
    study.set_user_attr(ENVIRONMENT, json.dumps({**environment_versions(), "optuna": "4.0.0"}))
    note = only(look(home))
    assert note.severity == "note"
    assert f"optuna 4.0.0 → {optuna.__version__}" in note.message
    assert "keras" not in note.message
    assert is_healthy([note])


def test_studies_that_cannot_be_read_or_do_not_exist_are_findings(home: Home, study: optuna.Study) -> None:
    assert "Did you mean 'toy'?" in only(look(home, study="toi")).remedy
    optuna.create_study(study_name="stock", storage=home.storage)
    assert look(home) == []
    assert "not made from a study file" in only(look(home, study="stock")).message
    study.set_user_attr("caviar:spec", "{")
    assert "cannot be read" in only(look(home)).message
    assert look(home, study="stock")[0].subject == "study stock"


def test_a_server_that_is_down_is_a_finding(home: Home, study: optuna.Study) -> None:
    finish(study, 1)
    down = address_home(home.path, tracking_uri="http://ann:secret@127.0.0.1:9")
    finding = only(look(down, fix=True))
    assert "MLflow cannot be reached" in finding.message
    assert "secret" not in json.dumps(doctor_report([finding]))
    for storage in ("postgresql+psycopg://ann:secret@127.0.0.1:9/studies", "sqlite://", "mysql://host/db", "nonsense"):
        findings = look(address_home(home.path, storage=storage))
        assert len(findings) == 1, findings
        assert "secret" not in findings[0].message + findings[0].subject


def test_what_cannot_be_mended_stays_a_problem(
    home: Home, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.health.mending._PATIENCE_S", 0.05)
    rollback_journal(home, study)
    with closing(sqlite3.connect(home.path / "optuna.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM trials").fetchone()
        finding = only(look(home, fix=True))
    assert "It could not be mended: It could not be switched: database is locked" in finding.message
    assert (finding.fixable, finding.fixed) == (True, False)


def test_the_command_reports_in_words_and_json_and_by_its_exit_code(home: Home, study: optuna.Study) -> None:
    expired_lease(home, study)
    command = ["doctor", "--home", str(home.path)]
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 1
    assert "problem: study toy: RUNNING" in found.stdout
    assert found.stdout.endswith("1 problem left; --fix mends 1 of them.\n")
    report = json.loads(CliRunner().invoke(main, [*command, "toy", "--json"]).stdout)
    assert report["healthy"] is False
    assert set(report["findings"][0]) == {field.name for field in dataclasses.fields(Finding)}
    fixed = CliRunner().invoke(main, [*command, "--fix"])
    assert (fixed.exit_code, "fixed: study toy" in fixed.stdout) == (0, True)
    assert json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout) == {"healthy": True, "findings": []}
    shared = CliRunner().invoke(main, [*command, "--tracking-uri", home.storage])
    assert (shared.exit_code, "share this file" in shared.stdout) == (1, True)


def test_looking_loads_neither_tensorflow_nor_mlflow(home: Home, study: optuna.Study) -> None:
    finish(study, 1)
    code = f"""
import sys
from pathlib import Path
from caviar.health.doctor import examine
from caviar.storage.home import locate_home
assert "MLflow lacks" in examine(locate_home(Path({str(home.path)!r})))[0].message
print(*sorted(set(sys.modules) & {{"tensorflow", "keras", "mlflow"}}))
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == ""


def test_a_log_that_a_killed_worker_left_is_read_and_left_as_it_is(home: Home, study: optuna.Study) -> None:
    close(study)
    code = f"""
import os, sqlite3
connection = sqlite3.connect({str(home.path / "optuna.db")!r})
connection.execute("INSERT INTO trials (number, study_id, state) VALUES (0, 1, 'RUNNING')")
connection.commit()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    log = home.path / "optuna.db-wal"
    before = log.read_bytes()
    assert "nobody holds a lease" in only(look(home)).message
    assert log.read_bytes() == before
