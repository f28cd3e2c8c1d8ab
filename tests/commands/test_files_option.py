"""What the verbs make of files that stand elsewhere: looked at, archived, deleted, examined; or away."""

import datetime
import json
from pathlib import Path
from typing import Any

import fsspec
import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.artifacts import get_all_artifact_meta
from tests.insight.synthetic import DATA, make_spec, make_study

from caviar.attributes import ENVIRONMENT, STUDY_UID
from caviar.cli import main
from caviar.commands.family import archive_family, delete_study, set_leftovers_aside
from caviar.commands.overview import show_study
from caviar.commands.panda import start_worker
from caviar.commands.report import report_lines, report_study
from caviar.commands.status import status_lines, study_status
from caviar.health.doctor import examine
from caviar.health.findings import Finding
from caviar.record.environment import environment_versions
from caviar.storage.checkpoints import Checkpoint
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.places import artifact_store, write_at
from caviar.storage.remote import RemotePath
from caviar.storage.studies import create_study
from caviar.worker.best_network import best_trial
from caviar.worker.opening import open_checkpoints


def ended_long_ago(n: int) -> list[optuna.trial.FrozenTrial]:
    """Return complete trials; doctor would wait until MLflow shows what ended just now."""
    trials = make_study(make_spec(), n_complete=n, n_pruned=0).get_trials()
    for trial in trials:
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        trial.datetime_start -= datetime.timedelta(days=1)
        trial.datetime_complete -= datetime.timedelta(days=1)
    return trials


@pytest.fixture(params=["memory", "file"])
def home(request: pytest.FixtureRequest, prepared_home: Path, tmp_path: Path) -> Home:
    """A home whose files are elsewhere."""
    elsewhere = (tmp_path / "elsewhere").as_uri()
    files = request.getfixturevalue("memory_url") if request.param == "memory" else elsewhere
    return locate_home(prepared_home, files=files)


@pytest.fixture
def storage(home: Home) -> LeasedStorage:
    return open_storage(home.storage, owner=new_owner(), create=True)


@pytest.fixture
def study(home: Home, storage: LeasedStorage) -> optuna.Study:
    """A study of five trials whose best has a network; a finished trial and a waiting one have checkpoints."""
    spec = make_spec()
    attributes = {"data": DATA, STUDY_UID: "u", ENVIRONMENT: json.dumps(environment_versions())}
    study = create_study(storage, spec, attributes=attributes)
    study.add_trials(ended_long_ago(5))
    best = best_trial(study)
    assert best is not None
    write_at(home.networks / "toy" / f"{best.number}.keras", b"network")
    for number in (0, 5):
        open_checkpoints(home, study).save(number, Checkpoint(epochs=1, state={}, notes={}))
    return study


def caviar(verb: str, home: Home, *options: str) -> Result:
    where = [str(home.files) if isinstance(home.files, Path) else home.files.url]
    return CliRunner().invoke(main, [verb, *options, "--home", str(home.path), "--files", *where])


def test_status_names_the_network_where_it_is(study: optuna.Study, home: Home) -> None:
    number = study_status(home, "toy")["best"]["number"]
    lines = status_lines(study_status(home, "toy"))
    assert f"network {home.files}/networks/toy/{number}.keras" in lines
    assert lines == caviar("status", home, "toy").stdout.splitlines()
    forgotten = study_status(locate_home(home.path), "toy")["best"]
    assert forgotten["network"] is None
    assert "was removed, or the trial was not run with this home" in forgotten["network_missing"]


@pytest.mark.slow
@pytest.mark.parametrize("home", ["memory"], indirect=True)
def test_a_report_stands_there_and_among_the_artifacts(study: optuna.Study, home: Home, storage: LeasedStorage) -> None:
    assert show_study(home, storage, study)["report"] is False
    written = report_study(home, "toy")
    assert f"report {home.files}/reports/toy.html" in "\n".join(report_lines(written))
    assert json.loads((home.reports / "toy.json").read_bytes())["study"] == "toy"
    (meta,) = get_all_artifact_meta(study)
    with artifact_store(home.artifacts).open_reader(meta.artifact_id) as reader:
        assert reader.read() == (home.reports / "toy.html").read_bytes()
    assert show_study(home, storage, study)["report"] is True
    assert not (home.path / "reports").exists()


def test_an_archived_study_takes_its_files_along_and_a_leftover_is_set_aside(
    study: optuna.Study, home: Home, storage: LeasedStorage
) -> None:
    for place in home.report_files("toy"):
        write_at(place, "report")
    assert archive_family(storage, home, "toy") == "toy.archived-1"
    assert not (home.networks / "toy").exists()
    assert study_status(home, "toy.archived-1")["best"]["network"] is not None
    assert home.report_files("toy.archived-1")[0].read_bytes() == b"report"
    write_at(home.networks / "gone" / "0.keras", b"left")
    set_leftovers_aside(storage, home, "gone")
    assert (home.networks / "gone.left-1" / "0.keras").read_bytes() == b"left"


def test_a_deleted_study_leaves_no_file(study: optuna.Study, home: Home) -> None:
    for place in home.report_files("toy"):
        write_at(place, "report")
    write_at(home.networks / "toy-2" / "0.keras", b"another's")
    checkpoints = open_checkpoints(home, study)
    delete_study(home, "toy", uid="u")
    assert checkpoints.numbers() == []
    assert not (home.networks / "toy").exists()
    assert not any(place.exists() for place in home.report_files("toy"))
    assert (home.networks / "toy-2" / "0.keras").exists()


def findings(home: Home, *, fix: bool = False) -> list[Finding]:
    found = examine(home, fix=fix, mounts=[("/", "ext4")], min_free_bytes=0)
    return [one for one in found if "MLflow lacks" not in one.message]


def test_doctor_finds_and_removes_what_finished_trials_left_there(study: optuna.Study, home: Home) -> None:
    (old,) = findings(home)
    assert "1 trial (0)" in old.message
    assert [one.fixed for one in findings(home, fix=True)] == [True]
    assert findings(home) == []
    assert open_checkpoints(home, study).numbers() == [5]


def test_a_moved_home_finds_its_files_where_they_were(study: optuna.Study, home: Home, tmp_path: Path) -> None:
    moved = home.path.rename(tmp_path / "moved")
    address = str(home.files) if isinstance(home.files, Path) else home.files.url
    assert study_status(locate_home(moved, files=address), "toy")["best"]["network"] is not None


def test_a_worker_in_the_background_learns_the_address_by_its_environment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("subprocess.Popen", lambda command, **options: given.update(options, command=command))
    start_worker(home, "toy", 3)
    assert locate_home(home.path, files=given["env"]["CAVIAR_FILES"]) == home
    assert "--files" not in given["command"]


@pytest.fixture
def away(prepared_home: Path, memory_url: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose store of files goes away once its study is there."""

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("https://ann:s3cret@store.example does not answer")

    home = locate_home(prepared_home, files=memory_url)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    attributes = {STUDY_UID: "u", ENVIRONMENT: json.dumps(environment_versions())}
    study = create_study(storage, make_spec(), attributes=attributes)
    study.add_trials(ended_long_ago(2))
    assert isinstance(home.files, RemotePath)
    for name in ("info", "ls", "find", "cat_file", "pipe_file", "rm", "rm_file"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), name, fail)
    return home


def test_status_and_doctor_say_that_a_store_is_away(away: Home) -> None:
    assert "does not answer" in study_status(away, "toy")["best"]["network_missing"]
    (lost,) = findings(away)
    assert lost.message == "The store of the files cannot be read: https://***@store.example does not answer."


def test_a_study_is_not_deleted_while_its_files_cannot_be(away: Home) -> None:
    ended = caviar("delete", away, "toy", "--yes")
    assert (ended.exit_code, "s3cret" in ended.output) == (1, False)
    assert "does not answer" in ended.output
    assert optuna.get_all_study_names(away.storage) == ["toy"]


def test_a_run_is_refused_before_any_work_while_the_store_is_away(away: Home, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text('name = "new"\n[data]\ndataset = "digits"\n')
    ended = caviar("run", away, str(file))
    assert (ended.exit_code, "cannot be written" in ended.output) == (2, True)
    assert optuna.get_all_study_names(away.storage) == ["toy"]


def test_an_address_that_cannot_be_used_is_a_finding_and_elsewhere_an_error(prepared_home: Path) -> None:
    where = ["--home", str(prepared_home), "--files", "s4://ann:s3cret@bucket/x"]
    looked = CliRunner().invoke(main, ["doctor", *where])
    assert (looked.exit_code, "knows no protocol 's4'" in looked.stdout) == (1, True)
    refused = CliRunner().invoke(main, ["status", "toy", *where])
    assert (refused.exit_code, "knows no protocol 's4'" in refused.stderr) == (2, True)
    assert "s3cret" not in looked.output + refused.output


def test_the_environment_names_the_files_too(study: optuna.Study, home: Home) -> None:
    address = str(home.files) if isinstance(home.files, Path) else home.files.url
    options = ["status", "toy", "--home", str(home.path), "--json"]
    shown = json.loads(CliRunner().invoke(main, options, env={"CAVIAR_FILES": address}).stdout)
    assert shown["best"]["network"].startswith(str(home.files))
