import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from caviar.errors import StorageError
from caviar.storage.addresses import sqlite_path
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home, prepare_home


def test_a_database_is_created_in_wal_mode_and_stays_a_plain_optuna_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'optuna.db'}"
    storage = open_storage(url, owner=new_owner(), create=True)
    optuna.create_study(storage=storage, study_name="toy")
    with sqlite3.connect(tmp_path / "new" / "optuna.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with storage.engine.connect() as checked:
        assert checked.exec_driver_sql("PRAGMA synchronous").scalar_one() == 1
    assert optuna.get_all_study_names(url) == ["toy"]


def test_what_is_not_an_optuna_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database at all")
    other = tmp_path / "other.db"
    mlflow = tmp_path / "mlflow.db"
    for path, name in ((other, "customers"), (mlflow, "experiments")):
        with sqlite3.connect(path) as connection:
            connection.execute(f"CREATE TABLE {name} (id INTEGER)")
    for path, message in (
        (text, "is not an SQLite database"),
        (other, "is a database of something else.*customers"),
        (mlflow, "MLflow's tables: Optuna and MLflow cannot share"),
        (tmp_path / "missing.db", "There is no study database"),
    ):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(StorageError, match=message):
            open_storage(f"sqlite:///{path}", owner=new_owner())
        assert (path.read_bytes() if path.exists() else None) == before


def test_an_older_schema_is_refused_with_the_way_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    open_storage(url, owner=new_owner(), create=True).engine.dispose()
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    with pytest.raises(StorageError, match="optuna storage upgrade"):
        open_storage(url, owner=new_owner())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
        ("mysql://user:secret@host/db", r"SQLite or PostgreSQL, but got mysql://user:\*\*\*@host/db"),
        ("optuna.db", "SQLite or PostgreSQL"),
        ("redis://host", "SQLite or PostgreSQL"),
    ],
)
def test_other_storages_are_refused_without_showing_a_password(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_storage(url, owner=new_owner(), create=True)


def test_optuna_and_mlflow_may_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot share the file"):
        locate_home(tmp_path, tracking_uri=f"sqlite:///{tmp_path}/x/../optuna.db")
    home = locate_home(tmp_path)
    assert home.storage == f"sqlite:///{tmp_path}/optuna.db"


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(StorageError, match=r"cannot be written.*--home or CAVIAR_HOME"):
            prepare_home(locate_home(path))


@pytest.mark.parametrize("name", ["networks", "networks/toy", "checkpoints", "reports", "mlartifacts", "timings"])
def test_a_file_or_a_dangling_link_in_the_place_of_a_homes_directory_is_refused(tmp_path: Path, name: str) -> None:
    home = locate_home(tmp_path)
    prepare_home(home, study="toy")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(StorageError, match=f"{tmp_path / name} must be a directory that can be written.*--home"):
        prepare_home(home, study="toy")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="must be a directory"):
        prepare_home(home, study="toy")


def test_the_file_of_an_address_is_found(tmp_path: Path) -> None:
    assert sqlite_path(f"sqlite:///{tmp_path}/a.db?timeout=5") == tmp_path / "a.db"
    assert sqlite_path("sqlite:///a.db") == Path.cwd() / "a.db"
    assert sqlite_path("postgresql://host/a.db") is None


def test_opening_a_database_again_keeps_the_locks_on_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    first = open_storage(url, owner=new_owner(), create=True)
    with first.engine.connect() as held:
        held.exec_driver_sql("SELECT count(*) FROM trials").scalar_one()
        open_storage(url, owner=new_owner())
        code = f"import sqlite3; c = sqlite3.connect({str(tmp_path / 'optuna.db')!r}); c.execute('PRAGMA user_version')"
        writer = f"{code}; c.execute('CREATE TABLE extra (x)'); c.commit(); c.close()"
        subprocess.run([sys.executable, "-c", writer], check=True)
        # Had the other process been the last one with the database open, it would have removed the log on its way out.
        assert (tmp_path / "optuna.db-wal").stat().st_size > 0
        assert held.exec_driver_sql("SELECT count(*) FROM extra").scalar_one() == 0
