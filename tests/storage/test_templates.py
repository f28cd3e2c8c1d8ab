import sqlite3
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import optuna
import pytest
import sqlalchemy

from caviar.errors import StorageError
from caviar.record import tracking
from caviar.storage import database
from caviar.storage.database import new_owner, open_storage, prepare_storage_template
from caviar.storage.templates import create_from_template, keep_template
from caviar.user_cache import load_kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "optuna-caviar"


def make(path: Path) -> None:
    path.write_text("a database")


def test_a_template_is_made_once_and_copied(cache: Path, tmp_path: Path) -> None:
    create_from_template(tmp_path / "one", "empty.db", make)
    create_from_template(tmp_path / "two", "empty.db", lambda _path: pytest.fail("made again"))
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["a database"] * 2
    assert load_kept(cache / "empty.db") == b"a database"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "one", "two"]


@pytest.mark.parametrize("damage", [b"", b"cut", bytes(100)])
def test_a_damaged_template_is_made_anew(cache: Path, tmp_path: Path, damage: bytes) -> None:
    keep_template("empty.db", make)
    (cache / "empty.db").write_bytes(damage)
    create_from_template(tmp_path / "one", "empty.db", make)
    assert (tmp_path / "one").read_text() == "a database"
    assert load_kept(cache / "empty.db") == b"a database"


@pytest.mark.parametrize(
    ("module", "name"), [(optuna, "__version__"), (sqlalchemy, "__version__"), (database, "sources_digest")]
)
def test_the_study_database_s_template_belongs_to_who_made_it(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    before = database._template_name()
    monkeypatch.setattr(module, name, (lambda *_: "another") if callable(getattr(module, name)) else "another")
    assert database._template_name() != before


@pytest.mark.parametrize("changed", ["mlflow", "sqlalchemy"])
def test_mlflow_s_template_belongs_to_the_versions_that_made_it(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    before = tracking._template_name()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another" if name == changed else version(name))
    assert tracking._template_name() != before


def test_mlflow_s_template_belongs_to_the_sources_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tracking._template_name()
    monkeypatch.setattr(tracking, "sources_digest", lambda *_: "another")
    assert tracking._template_name() != before


@pytest.mark.parametrize("error", [OSError("no space left"), StorageError("database or disk is full")])
def test_where_the_cache_is_full_the_database_is_made_in_its_place(
    cache: Path, tmp_path: Path, error: Exception
) -> None:
    def make_elsewhere(path: Path) -> None:
        path.write_text("a database")
        if path.is_relative_to(cache):
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
