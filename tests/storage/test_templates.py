import sqlite3
from pathlib import Path

import optuna
import pytest

from caviar.errors import StorageError
from caviar.storage.database import new_owner, open_storage, prepare_storage_template
from caviar.storage.templates import create_from_template, keep_template


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "optuna-caviar"


def make(path: Path) -> None:
    path.write_text("a database")


def test_a_template_is_made_once_and_copied(cache: Path, tmp_path: Path) -> None:
    create_from_template(tmp_path / "one", "empty.db", make)
    create_from_template(tmp_path / "two", "empty.db", lambda _path: pytest.fail("made again"))
    texts = [path.read_text() for path in (tmp_path / "one", tmp_path / "two", cache / "empty.db")]
    assert texts == ["a database"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "one", "two"]


@pytest.mark.parametrize("error", [OSError("no space left"), StorageError("database or disk is full")])
def test_where_the_cache_is_full_the_database_is_made_in_its_place(
    cache: Path, tmp_path: Path, error: Exception
) -> None:
    def make_elsewhere(path: Path) -> None:
        path.write_text("a database")
        if path.parent == cache:
            path.with_name(path.name + "-wal").write_text("its log")
            raise error

    assert keep_template("empty.db", make_elsewhere) is None
    create_from_template(tmp_path / "one", "empty.db", make_elsewhere)
    assert (tmp_path / "one").read_text() == "a database"
    assert [path.name for path in cache.iterdir()] == ["empty.db.lock"]


def test_what_cannot_be_made_is_refused_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise StorageError("no")

    with pytest.raises(StorageError, match="no"):
        create_from_template(tmp_path / "one", "empty.db", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_study_database_from_the_template_is_optuna_s_own(cache: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    prepare_storage_template(url)
    assert not (tmp_path / "optuna.db").exists()
    storage = open_storage(url, owner=new_owner(), create=True)
    with sqlite3.connect(tmp_path / "optuna.db") as ours:
        tables = ours.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ours.close()
    optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'stock.db'}").engine.dispose()
    stock = sqlite3.connect(tmp_path / "stock.db")
    assert stock.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall() == tables
    stock.close()
    optuna.create_study(storage=storage, study_name="toy")
