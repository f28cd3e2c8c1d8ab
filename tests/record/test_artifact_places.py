"""A home's MLflow database names its artifacts where the home is, not where it was."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from caviar.record import MlflowMirror, prepare_tracking
from caviar.record.artifact_places import moved_location
from caviar.storage.home import locate_home
from tests.record.conftest import MakeTrial


def locations(home: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as connection:
        query = "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs"
        return {place for (place,) in connection.execute(query)}


def mirror_in(path: Path) -> MlflowMirror:
    home = locate_home(path)
    return MlflowMirror(home.tracking_uri, study_name="toy", artifact_location=home.mlflow_artifacts.as_uri())


@pytest.fixture
def original(prepared_home: Path, make_trial: MakeTrial) -> Path:
    """A home with two trials in MLflow, the first with a report."""
    mirror = mirror_in(prepared_home)
    for number in (0, 1):
        mirror.record(make_trial(number), hyperparameters={}, curves={})
    report = prepared_home / "toy.html"
    report.write_text("the original's")
    assert mirror.attach_report(0, [report])
    return prepared_home


def files(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_home_that_was_moved_or_copied_keeps_to_itself(original: Path, tmp_path: Path, how: str) -> None:
    elsewhere = tmp_path / "José's %41 {home}?"
    before = files(original)
    (shutil.copytree if how == "copied" else shutil.move)(original, elsewhere)

    report = elsewhere / "toy.html"
    report.write_text("the copy's")
    assert mirror_in(elsewhere).attach_report(1, [report])

    assert {path.name for path in tmp_path.iterdir()} == {elsewhere.name} | ({"runs"} if how == "copied" else set())
    (kept,) = (elsewhere / "mlartifacts").rglob("toy.html")  # beside the other trial's, which is gone
    assert kept.read_text() == "the copy's"
    assert all(place.startswith((elsewhere / "mlartifacts").as_uri()) for place in locations(elsewhere))
    if how == "copied":
        assert files(original) == before


def test_the_default_experiment_of_a_new_home_is_below_it(tmp_path: Path, prepared_home: Path) -> None:
    home = locate_home(prepared_home)
    assert locations(prepared_home) != {(prepared_home / "mlartifacts" / "0").as_uri()}
    prepare_tracking(home.tracking_uri, artifact_location=home.mlflow_artifacts.as_uri())
    assert locations(prepared_home) == {(prepared_home / "mlartifacts" / "0").as_uri()}


@pytest.mark.parametrize(
    ("location", "moved"),
    [
        ("file:///old/mlartifacts", "file:///new%20home/mlartifacts"),
        ("/old/mlartifacts/3/run/artifacts", "file:///new%20home/mlartifacts/3/run/artifacts"),
        ("file:///new%20home/mlartifacts/run", "file:///new%20home/mlartifacts/run"),
        ("file:///data/artifacts/run", "file:///data/artifacts/run"),
        ("s3://bucket/mlartifacts/run", "s3://bucket/mlartifacts/run"),
        ("mlflow-artifacts:/mlartifacts/run", "mlflow-artifacts:/mlartifacts/run"),
        (None, None),
    ],
)
def test_only_another_home_s_locations_move(location: str | None, moved: str | None) -> None:
    assert moved_location(location, root=Path("/new home/mlartifacts")) == moved


def test_a_home_seen_through_a_link_is_the_same_home(tmp_path: Path) -> None:
    (tmp_path / "real" / "mlartifacts").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    location = (tmp_path / "real" / "mlartifacts" / "run").as_uri()
    assert moved_location(location, root=tmp_path / "link" / "mlartifacts") == location
