"""Deleting takes away the study that was asked about and its files, or nothing at all."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import click
import optuna
import pytest
from click.testing import CliRunner, Result

from caviar.attributes import CHILDREN, PARENT, STUDY_UID
from caviar.cli import main
from caviar.commands.family import archive_family, open_parent, set_leftovers_aside
from caviar.commands.report import read_family
from caviar.spec import StudySpec
from caviar.storage import database
from caviar.storage.home import Home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import archive_study, create_study, open_study


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec, home: Home) -> optuna.Study:
    """A study with a network and a report."""
    study = create_study(storage, spec, attributes={STUDY_UID: "first"})
    for path in (home.path / name for name in ("networks/toy/0.keras", "reports/toy.html", "reports/toy.json")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    return study


def caviar(verb: str, home: Home, *options: str) -> Result:
    return CliRunner().invoke(main, [verb, "toy", "--home", str(home.path), *options])


def files(home: Home) -> list[str]:
    found = [path for name in ("networks", "reports") for path in (home.path / name).rglob("*")]
    return sorted(str(path.relative_to(home.path)) for path in found)


def test_what_was_asked_about_is_deleted_with_its_files(study: optuna.Study, home: Home) -> None:
    assert caviar("delete", home, "--yes").exit_code == 0
    assert files(home) == []


def test_another_study_that_took_the_name_while_it_was_asked_is_left_alone(
    study: optuna.Study, home: Home, storage: LeasedStorage, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(*_: Any, **__: Any) -> bool:
        archive_study(storage, "toy")
        create_study(storage, spec, attributes={STUDY_UID: "second"})
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    ended = caviar("delete", home)
    assert (ended.exit_code, "it is another" in ended.stderr) == (1, True)
    assert sorted(optuna.get_all_study_names(storage)) == ["toy", "toy.archived-1"]


def read_only(connection: Any, _record: object) -> None:
    """Make a connection refuse to write, as one to a read-only file does."""
    connection.execute("PRAGMA query_only = 1")


def test_a_database_that_cannot_be_written_says_so_and_nothing_is_taken_away(
    study: optuna.Study, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(home)
    monkeypatch.setattr(database, "_tune_sqlite", read_only)
    assert caviar("status", home).exit_code == 0
    ended = caviar("delete", home, "--yes")
    assert ended.exit_code == 1
    assert "cannot be written (attempt to write a readonly database). Make the file and its" in ended.stderr
    assert files(home) == before


def damage(path: Path, storage: LeasedStorage) -> None:
    """Overwrite the first page of the table of trials."""
    storage.remove_session()
    storage.engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as connection:  # the last one to close it moves the log into it
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trials'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    assert not path.with_name("optuna.db-wal").exists()
    contents = path.read_bytes()
    path.write_bytes(contents[: (page - 1) * size] + b"\xff" * size + contents[page * size :])


def test_a_damaged_database_is_called_so_by_every_verb_and_nothing_is_taken_away(
    study: optuna.Study, home: Home, storage: LeasedStorage
) -> None:
    study.add_trial(optuna.create_trial(value=0.5))
    before = files(home)
    damage(home.path / "optuna.db", storage)
    for verb, *options in (("status",), ("trials",), ("sync",), ("delete", "--yes")):
        ended = caviar(verb, home, *options)
        assert ended.exit_code == 1
        assert ended.stderr == (
            "Error: The study's database is damaged (database disk image is malformed). "
            "`caviar doctor` says how to save what can be read.\n"
        )
    assert files(home) == before


def test_archiving_takes_the_files_along_and_leftovers_make_way(
    study: optuna.Study, home: Home, storage: LeasedStorage
) -> None:
    set_leftovers_aside(storage, home, "toy")
    assert archive_family(storage, home, "toy") == "toy.archived-1"
    assert files(home) == [
        "networks/toy.archived-1",
        "networks/toy.archived-1/0.keras",
        "reports/toy.archived-1.html",
        "reports/toy.archived-1.json",
    ]
    for _ in range(2):  # of studies that the dashboard deleted
        (home.path / "networks" / "toy").mkdir()
        set_leftovers_aside(storage, home, "toy")
    assert {"networks/toy.left-1", "networks/toy.left-2"} < set(files(home))
    assert "networks/toy" not in files(home)


def test_a_zoom_is_no_child_of_another_study_that_took_its_parents_name(
    study: optuna.Study, storage: LeasedStorage, spec: StudySpec
) -> None:
    zoom = optuna.create_study(storage=storage, study_name="toy-zoom-1")
    zoom.set_user_attr(PARENT, "toy")
    study.set_user_attr(CHILDREN, ["toy-zoom-1"])
    assert open_parent(storage, zoom) is not None
    optuna.delete_study(study_name="toy", storage=storage)
    create_study(storage, spec, attributes={})
    assert open_parent(storage, zoom) is None
    assert read_family(storage, zoom) == read_family(storage, open_study(storage, "toy")) == ()
