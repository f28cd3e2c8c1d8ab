"""Addresses: any file's path goes through one and comes back, and no secret is shown."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StorageError
from caviar.storage.addresses import masked, sqlite_address, sqlite_path, storage_address, tracking_address
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home

ODD = "José é%41{b}?,# @x&y=z;:+"


@given(st.text(st.characters(exclude_characters="/\0\n\r", exclude_categories=["Cs"]), min_size=1))
def test_a_path_survives_its_address(name: str) -> None:
    path = Path("/homes") / f"h{name}" / "optuna.db"
    assert sqlite_path(sqlite_address(path)) == path
    assert storage_address(sqlite_address(path)) == sqlite_address(path)
    assert "{" not in sqlite_address(path), "Optuna formats it"


def test_a_home_may_have_any_name(tmp_path: Path) -> None:
    home = locate_home(tmp_path / ODD)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    optuna.create_study(storage=storage, study_name="toy")
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert optuna.get_all_study_names(home.storage) == ["toy"]


def test_relative_places_are_those_of_the_directory_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = locate_home(Path("runs"), storage="sqlite:///a.db?timeout=5", tracking_uri="sqlite:///b.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert home.path == tmp_path / "runs"
    assert (sqlite_path(home.storage), sqlite_path(home.tracking_uri)) == (tmp_path / "a.db", tmp_path / "b.db")
    assert home.storage.endswith("?timeout=5")


@pytest.mark.parametrize(
    ("given_address", "address"),
    [
        ("http://host:5000", "http://host:5000"),
        ("databricks://profile", "databricks://profile"),
        ("databricks", "databricks"),
        ("runs/mlruns", "file:///here/runs/mlruns"),
        ("file:mlruns", "file:///here/mlruns"),
        ("file:///there/mlruns", "file:///there/mlruns"),
        ("https://ann:p@ss@host/x", "https://ann:p%40ss@host/x"),
    ],
)
def test_a_tracking_address_is_made_absolute(
    given_address: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_address(given_address) == address.replace("/here", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:////home/ann@corp/runs/mlflow.db", "sqlite:////home/ann@corp/runs/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ann:p%40ss@host:5000/mlflow", "https://***@host:5000/mlflow"),
        ("https://t0ken@host", "https://***@host"),
        ("postgresql://ann:p@ss@db/mlflow", "postgresql://***@db/mlflow"),
        ("postgresql://ann:my secret@db/mlflow", "postgresql://***@db/mlflow"),
        ("postgresql://db/x?user=ann&password=secret", "postgresql://db/x?user=ann&password=***"),
        ("postgresql://db/x?sslpassword=secret&sslmode=require", "postgresql://db/x?sslpassword=***&sslmode=require"),
        ("https://host/x?access_token=secret", "https://host/x?access_token=***"),
        ("could not reach http://ann:secret@host/x twice", "could not reach http://***@host/x twice"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_password_with_an_at_sign_is_no_part_of_the_host() -> None:
    assert storage_address("postgresql://ann:p@ss@db/x") == "postgresql://ann:p%40ss@db/x"


def test_what_is_no_address_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"must be an address.* but got postgresql://\*\*\*@host:port/db") as refused:
        locate_home(tmp_path, storage="postgresql://ann:secret@host:port/db")
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(locate_home(tmp_path, storage="postgresql://ann:secret@host/db"))
