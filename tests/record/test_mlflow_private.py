"""One test for each use of a private part of MLflow: it fails by name when upstream moves."""

import logging
import sqlite3
import sys
from pathlib import Path

import pytest

from caviar.errors import FatalError, StorageError
from caviar.record.mlflow_private import REVISIONS, database_engine, delete_artifacts, mlflow_revisions, quiet_mlflow
from caviar.record.tracking import connect, import_mlflow, tracking_errors


@pytest.fixture
def tracking_uri(prepared_home: Path) -> str:
    return f"sqlite:///{prepared_home / 'mlflow.db'}"


def test_the_installed_mlflow_makes_the_revision_that_is_written(tracking_uri: str) -> None:
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as connection:
        ((revision,),) = connection.execute("SELECT version_num FROM alembic_version")
    known = mlflow_revisions()
    assert revision in REVISIONS
    assert known is not None
    assert known[0] == revision


def test_the_engine_of_a_sqlite_client_is_found(tracking_uri: str) -> None:
    engine = database_engine(connect(tracking_uri))
    assert engine is not None
    assert engine.dialect.name == "sqlite"


def test_mlflows_log_lines_are_held_back_in_this_thread(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("mlflow.tracking")
    with quiet_mlflow():
        logging.getLogger("mlflow.store.db.utils").error(
            "SQLAlchemy database error. The following exception is caught."
        )
    assert caplog.records == []
    logger.warning("said")


def test_a_folder_of_artifacts_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "report").mkdir(parents=True)
    (tmp_path / "artifacts" / "report" / "page.html").write_text("old")
    (tmp_path / "artifacts" / "kept.txt").write_text("kept")
    delete_artifacts((tmp_path / "artifacts").as_uri(), "report", tracking_uri="http://127.0.0.1:9")
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["kept.txt"]


def test_an_import_that_fails_inside_mlflow_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(FatalError, match=r"MLflow cannot be imported: .*Repair the installation"):
        import_mlflow()
    assert not issubclass(ImportError, tracking_errors())


def test_a_store_whose_driver_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"postgresql://user:\*\*\*@h/db needs the package 'psycopg'"):
        connect("postgresql://user:secret@h/db")
