"""A database that was moved or copied names the artifacts beside it, and no others are written or deleted."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from caviar.record import MlflowMirror, prepare_tracking
from caviar.record.artifacts import adopt_artifacts, artifact_folder
from caviar.record.tracking import connect
from caviar.storage.addresses import sqlite_address

from .conftest import build_trial

ODD = "José %41{b}?# x"


def make_mirror(home: Path, *, place: Path | None = None) -> MlflowMirror:
    location = (place or home / "mlartifacts").as_uri()
    return MlflowMirror(sqlite_address(home / "mlflow.db"), study_name="toy", artifact_location=location)


def locations(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments ORDER BY experiment_id").fetchall()
        found += connection.execute("SELECT artifact_uri FROM runs").fetchall()
    return [location for (location,) in found]


def files(home: Path) -> dict[str, str]:
    return {path.parent.parent.parent.name: path.read_text() for path in home.rglob("report.html")}


@pytest.fixture
def home(empty_store: Path, tmp_path: Path) -> Path:
    """A home with two recorded trials, and a report with the second one's run."""
    home = tmp_path / "first"
    home.mkdir()
    shutil.copy(empty_store, home)
    mirror = make_mirror(home)
    for number in range(2):
        mirror.record(build_trial(number), hyperparameters={}, curves={})
    report = tmp_path / "report.html"
    report.write_text("first")
    assert mirror.attach_report(1, [report])
    report.write_text("second")
    return home


@pytest.mark.parametrize("name", ["copy", ODD])
def test_a_report_in_a_copy_leaves_the_original_alone(home: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(home, tmp_path / name))
    before = files(home)
    assert make_mirror(copy).attach_report(0, [tmp_path / "report.html"])
    assert files(home) == before
    assert [(run in before, text) for run, text in files(copy).items()] == [(False, "second")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["first", "report.html", name])


def test_a_moved_home_is_not_made_again_where_it_was(home: Path, tmp_path: Path) -> None:
    moved = home.rename(tmp_path / "moved")
    mirror = make_mirror(moved)
    mirror.record(build_trial(2), hyperparameters={}, curves={})
    assert mirror.attach_report(2, [tmp_path / "report.html"])
    assert not home.exists()
    assert all(location.startswith((moved / "mlartifacts").as_uri()) for location in locations(moved))
    client = connect(sqlite_address(moved / "mlflow.db"))
    (run,) = client.search_runs(["1"], "tags.`caviar.report` = 'report'")
    assert [file.path for file in client.list_artifacts(run.info.run_id, "report")] == ["report/report.html"]


def test_a_new_store_has_every_experiment_in_its_own_home(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare_tracking(sqlite_address(tmp_path / name / "mlflow.db"))
        assert locations(tmp_path / name) == [f"{(tmp_path / name / 'mlartifacts').as_uri()}/0"]


def test_experiments_of_others_keep_their_place(home: Path, tmp_path: Path) -> None:
    client = connect(sqlite_address(home / "mlflow.db"))
    client.create_experiment("big", artifact_location="file:///big/mlartifacts/7")
    moved = home.rename(tmp_path / "moved")
    prepare_tracking(sqlite_address(moved / "mlflow.db"))
    assert "file:///big/mlartifacts/7" in locations(moved)


def test_files_outside_the_home_in_use_are_never_touched(home: Path, tmp_path: Path) -> None:
    """A database on a server goes on naming the home that was copied."""
    elsewhere = make_mirror(home, place=tmp_path / "copy" / "mlartifacts")
    before = files(home)
    assert not elsewhere.attach_report(0, [tmp_path / "report.html"])
    assert files(home) == before


def test_adopting_again_changes_nothing(home: Path) -> None:
    before = locations(home)
    folder = artifact_folder(sqlite_address(home / "mlflow.db"))
    assert folder is not None
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        adopt_artifacts(connection, folder)
        connection.commit()
        assert connection.total_changes == 0
    assert locations(home) == before
