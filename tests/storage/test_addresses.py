"""Addresses: there and back for any path, absolute, and without secrets when shown."""

import sqlite3
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from caviar.storage.addresses import absolute_address, masked, sqlite_path, sqlite_url
from caviar.storage.database import creation_lock, new_owner, open_storage
from caviar.storage.home import locate_home

ODD_NAMES = ("José", "a%41", "{x}", "what?", "a,b", "a b", "a#b", "a@b:c", "100%", "a+b&c=d", "[x]")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_address_leads_back_to_its_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "x.db"
    assert sqlite_path(sqlite_url(path)) == path
    assert sqlalchemy.make_url(sqlite_url(path)).database == str(path)
    assert masked(sqlite_url(path)) == sqlite_url(path)
    assert absolute_address(sqlite_url(path)) == sqlite_url(path)


def test_a_study_lives_in_a_home_of_any_name(tmp_path: Path) -> None:
    home = locate_home(tmp_path / "José {a}, %41? #@")
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    with creation_lock(storage):
        optuna.create_study(storage=storage, study_name="toy")
    storage.engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [home.path.name]
    with sqlite3.connect(home.path / "optuna.db") as connection:
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("toy",)]
    assert optuna.get_all_study_names(home.storage) == ["toy"]  # the address that is shown is one for stock Optuna


def test_a_home_stays_where_it_is_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = locate_home(Path("runs"), storage="sqlite:///s/o.db?timeout=5", tracking_uri="sqlite:///m/mlflow.db")
    assert home.path == tmp_path / "runs"
    assert home.storage == f"sqlite:///{tmp_path}/s/o.db?timeout=5"
    assert home.tracking_uri == f"sqlite:///{tmp_path}/m/mlflow.db"


@pytest.mark.parametrize(
    ("address", "absolute"),
    [
        ("mlruns", "/here/mlruns"),
        ("file:mlruns", "file:///here/mlruns"),
        ("file:///a%20b", "file:///a%20b"),
        ("sqlite+pysqlite:///{a}.db", "sqlite+pysqlite:////here/%7Ba%7D.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:x.db?mode=ro&uri=true", "sqlite:///file:x.db?mode=ro&uri=true"),
        ("http://host:5000", "http://host:5000"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("postgresql://ann:a{b@host/db", "postgresql://ann:a%7Bb@host/db"),
    ],
)
def test_only_relative_addresses_are_made_absolute(
    address: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_address(address) == absolute.replace("/here", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ann:p%40ss@host:5000/mlflow", "https://***@host:5000/mlflow"),
        ("https://t0ken@host/mlflow", "https://***@host/mlflow"),
        ("postgresql://ann:p@ss@db/mlflow", "postgresql://ann:***@db/mlflow"),
        ("postgresql://db/mlflow?user=ann&password=secret", "postgresql://db/mlflow?user=ann&password=***"),
        ("postgresql://db/x?sslpassword=s&pwd=t&a=b", "postgresql://db/x?sslpassword=***&pwd=***&a=b"),
        ("could not reach http://ann:secret@host/x twice", "could not reach http://***@host/x twice"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_home_s_own_words_hold_no_password(tmp_path: Path) -> None:
    home = locate_home(tmp_path, storage="postgresql://ann:s3cret@db/x", tracking_uri="http://ann:s3cret@host")
    assert "s3cret" not in repr(home)
