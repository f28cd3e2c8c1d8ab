"""Where the runs of a home's MLflow database keep their artifacts: below that home, wherever it stands now."""

import contextlib
import functools
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_FOLDER: Final = "mlartifacts"

# MLflow keeps absolute locations in all of these.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# The experiment that every database has got its place from the process that made the database, or the template.
_UNUSED_DEFAULT = """
    SELECT 1 FROM experiments WHERE experiment_id = 0 AND instr(artifact_location, 'mlartifacts') = 0
    AND NOT EXISTS (SELECT 1 FROM runs WHERE experiment_id = 0)
"""


def move_artifacts_here(connection: sqlite3.Connection, root: Path) -> None:
    """Let a home's own MLflow database name its artifacts where the home is, after the home was moved or copied.

    A location in another home's ``mlartifacts`` becomes the same one in this home's, ``root``; what lies elsewhere was
    put there on purpose. All in one transaction, and nothing is written where nothing is to be changed.
    """
    moved = functools.partial(moved_location, root=root)
    places = [place for (place,) in connection.execute("SELECT artifact_location FROM experiments")]
    default = connection.execute(_UNUSED_DEFAULT).fetchone()
    if default is None and all(moved(place) == place for place in places):
        return
    connection.create_function("moved", 1, moved)
    with contextlib.closing(connection.cursor()) as cursor, connection:
        cursor.execute("BEGIN IMMEDIATE")
        if default is not None:
            place = f"{root.as_uri()}/0"
            cursor.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (place,))
        for table, column in _LOCATIONS:
            if column in {row[1] for row in cursor.execute(f"PRAGMA table_info({table})").fetchall()}:
                changed = f"SET {column} = moved({column}) WHERE {column} IS NOT moved({column})"
                cursor.execute(f"UPDATE {table} {changed}")


def moved_location(location: str | None, *, root: Path) -> str | None:
    """Return where an artifact location is in the home of ``root``; one of this home, or of none, stays as it is."""
    parts = urlsplit(location or "")
    above, folder, below = f"{parts.path}/".rpartition(f"/{_FOLDER}/")
    if parts.scheme not in ("", "file") or not folder or not parts.path.startswith("/"):
        return location
    old = Path(unquote(above)) / _FOLDER
    if old == root or old.resolve() == root.resolve():  # by way of a symbolic link
        return location
    return f"{root.as_uri()}/{below}".rstrip("/")
