"""Where MLflow's artifacts are: beside its SQLite file, wherever the two were moved or copied to.

MLflow keeps absolute addresses, on every experiment and every run. Left alone, a copy's report would replace the
original's, and a moved home would make its old directory again.
"""

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..storage.addresses import sqlite_path
from .run_content import STUDY_TAG

#: The folder's name.
ARTIFACTS: Final = "mlartifacts"
#: The Default experiment's place in a database that stands nowhere yet.
PLACELESS: Final = f"file:///{ARTIFACTS}/0"
# Every column in which MLflow keeps an address of artifacts.
_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
_OURS: Final = """
    SELECT DISTINCT artifact_location FROM experiments
    WHERE experiment_id = 0 OR experiment_id IN (SELECT experiment_id FROM experiment_tags WHERE key = ?)
"""


def artifact_folder(tracking_uri: str) -> Path | None:
    """Return where the artifacts of an SQLite store belong, or None for another store."""
    path = sqlite_path(tracking_uri)
    return None if path is None else path.with_name(ARTIFACTS)


def local_path(uri: str) -> Path | None:
    """Return the directory that the address of artifacts names, or None where it is on a server."""
    split = urlsplit(uri)
    return Path(url2pathname(split.path)) if split.scheme in ("", "file") else None


def adopt_artifacts(connection: sqlite3.Connection, folder: Path) -> None:
    """Have MLflow's database name the folder beside it, where it names the one that it was moved or copied from.

    That is the one of our experiments, and of the Default one. Experiments with a place of their own keep it.

    Args:
        connection: In a transaction that holds the write lock.
        folder: As `artifact_folder` has it.
    """
    here = folder.as_uri()
    locations = [str(row[0]).removesuffix("/0") for row in connection.execute(_OURS, (STUDY_TAG,))]
    for old in {location for location in locations if location.endswith(f"/{ARTIFACTS}")} - {here}:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, column in _COLUMNS:
            if table in tables:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608  (names of ours)
                    f" WHERE substr({column} || '/', 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
