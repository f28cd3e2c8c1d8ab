"""Runs written straight into MLflow's SQLite database: many trials in one transaction, mlflow not even imported.

This reaches below MLflow's public API, because a fleet ends 10 to 40 trials a second: the API takes a dozen
transactions and some 20 ms of CPU for each run, has no call for several, and costs every process two seconds before
its first. It also cannot look for a run and create it in one step, so two writers may make two; the write lock here
makes it one. `test_sqlite_runs.py` compares every table with what the public API leaves behind.

It is done only where it is known to be right: in a database with the tables of an MLflow that was compared, outside
MLflow's workspaces, for values that MLflow stores as they are. All else is left to the public API, and so is an
experiment that is in the trash or whose artifacts MLflow is to place.
"""

import contextlib
import functools
import json
import logging
import os
import re
import sqlite3
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..storage.addresses import sqlite_path
from .data_set import CONTEXT_TAG, SOURCE_TYPE, StudyData
from .experiment import view_tag, wanted_tags
from .mlflow_private import REVISIONS
from .run_content import (
    FINAL_STATUSES,
    STUDY_UID_TAG,
    TRIAL_NUMBER_TAG,
    RunContent,
    StudyIdentity,
    is_accepted_name,
)
from .shared_view import VIEW_TAG, SharedView, joined_view, load_view
from .tracking import BUSY_TIMEOUT_S, prepare_tracking

_logger = logging.getLogger(__name__)
# What SQLite says of a statement that does not fit the tables; what it says of locks, disks and broken files passes.
_MISFITS = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
_PLAIN_LENGTH = {"name": 250, "value": 6000, "location": 500}  # characters; each the lowest of MLflow's limits

_RUNS = """
    SELECT number.value, runs.run_uuid, runs.status
    FROM tags AS number
    JOIN runs ON runs.run_uuid = number.run_uuid
    LEFT JOIN tags AS uid ON uid.run_uuid = runs.run_uuid AND uid.key = ?
    WHERE number.key = ? AND number.value IN (SELECT value FROM json_each(?))
      AND runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
      AND (? = '' OR COALESCE(uid.value, '') IN ('', ?))
    ORDER BY runs.start_time, runs.run_uuid
"""
_NEW_RUN = """
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time,
                      source_version, lifecycle_stage, artifact_uri, experiment_id)
    VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', ?, ?, ?, '', 'active', ?, ?)
"""
_OLD_RUN = "UPDATE runs SET status = ?, end_time = COALESCE(?, end_time) WHERE run_uuid = ? AND status <> ?"
_DELETE_RUN = "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = ? WHERE run_uuid = ?"
_POINT = """
    INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING
"""
_LATEST = """
    INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)
    ON CONFLICT (key, run_uuid) DO UPDATE
    SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = 0
    WHERE (excluded.step, excluded.timestamp, excluded.value) >
          (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)
"""
_PARAM = "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_TAG = """
    INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)
    ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value
"""
_DATA_SET = """
    INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,
                          dataset_profile)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_INPUT = """
    INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)
    VALUES (?, 'DATASET', ?, 'RUN', ?) ON CONFLICT DO NOTHING
"""
_INPUT_TAG = "INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)"
_EXPERIMENT_TAGS = "SELECT key, value FROM experiment_tags JOIN experiments USING (experiment_id) WHERE name = ?"
_EXPERIMENT_TAG = """
    INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)
    ON CONFLICT (key, experiment_id) DO UPDATE SET value = excluded.value
"""


class ShownExperiment(NamedTuple):
    """An experiment as it stands after a write."""

    experiment_id: int
    artifact_location: str  # where its runs keep their artifacts
    view: SharedView | None  # the one that is shared
    changed: frozenset[int] = frozenset()  # numbers of the trials whose runs lacked something


class SqliteRuns:
    """Writes a study's runs; every call is one transaction that holds the write lock."""

    def __init__(self, tracking_uri: str, path: Path, *, study: StudyIdentity) -> None:
        self._tracking_uri = tracking_uri
        self._path = path
        self._study = study
        self._connection: sqlite3.Connection | None = None

    def write(self, contents: Sequence[RunContent], *, now_s: float) -> ShownExperiment | None:
        """Write trials to their runs, or what the runs lack of them; the same call again changes nothing.

        Args:
            contents: Plain ones, as `is_plain` says; none to open the experiment alone, created where there is none.
            now_s: The present as Unix seconds.

        Returns:
            The study's experiment; None where the public API has to do it, and nothing was written.

        Raises:
            StorageError: If the file cannot be written, or belongs to Optuna or to something else.
            sqlite3.Error: If the database is locked, full or broken; nothing was written.
        """
        try:
            with self._transaction() as connection:
                experiment = _open_experiment(connection, self._study, now_s=now_s)
                if experiment is None:
                    return None
                known = self._find_runs(connection, contents, experiment.experiment_id, now_s=now_s)
                changed = _write_runs(connection, contents, experiment, known)
                view = functools.reduce(joined_view, (content.view for content in contents), experiment.view)
                if view is not None and view != experiment.view:
                    row = (VIEW_TAG, view_tag(view, self._study), experiment.experiment_id)
                    connection.execute(_EXPERIMENT_TAG, row)
                return experiment._replace(view=view, changed=changed)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _MISFITS:
                raise
            _logger.debug("%d runs are left to MLflow's own client.", len(contents), exc_info=error)
            return None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection or self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        except BaseException:
            self._connection = None  # what is wrong with the file may be put right by opening it anew
            connection.rollback()
            connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        """Open the file and keep it open: SQLite reads MLflow's many tables first, some 4 ms of CPU."""
        prepare_tracking(self._tracking_uri, artifact_location=self._study.artifact_location)
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never create it
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        weakref.finalize(self, connection.close)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut loses the last records; a sync fills them
        self._connection = connection
        return connection

    def _find_runs(
        self, connection: sqlite3.Connection, contents: Iterable[RunContent], experiment_id: int, *, now_s: float
    ) -> dict[int, tuple[str, str]]:
        """Return id and status of the trials' runs that exist; of several of one trial the oldest is left."""
        numbers, uid = json.dumps([str(content.number) for content in contents]), self._study.uid
        values = (STUDY_UID_TAG, TRIAL_NUMBER_TAG, numbers, experiment_id, uid, uid)
        known: dict[int, tuple[str, str]] = {}
        for number, run_id, status in connection.execute(_RUNS, values).fetchall():
            if known.setdefault(int(number), (run_id, status))[0] != run_id:
                connection.execute(_DELETE_RUN, (round(1000 * now_s), run_id))
        return known


def sqlite_runs(tracking_uri: str, *, study: StudyIdentity) -> SqliteRuns | None:
    """Return a writer for the store, or None where it is not a plain SQLite file; nothing is opened."""
    path = sqlite_path(tracking_uri)
    if path is None or "?" in tracking_uri or os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in ("true", "1"):
        return None
    return SqliteRuns(tracking_uri, path, study=study)


def is_plain(content: RunContent) -> bool:
    """Return whether MLflow stores this as it is given: no name that it refuses, no text that it cuts."""
    keys = {point.key for point in content.points} | content.params.keys()
    tags = {**content.first_tags, **content.tags}
    return (
        all(map(is_accepted_name, keys | tags.keys()))
        and all(len(value) <= _PLAIN_LENGTH["value"] for values in (content.params, tags) for value in values.values())
        and len(content.name) <= _PLAIN_LENGTH["name"]
        and not any(key.startswith("mlflow.") for key in content.tags)  # some of these mean more than a tag
        and (content.data is None or len(content.data.name) <= _PLAIN_LENGTH["location"])
    )


@functools.cache  # once a process
def _warn_of_revision(found: str) -> None:
    _logger.warning(
        "MLflow's database has the revision %s, which this version does not know. Runs are written by MLflow's client, "
        "which takes longer. Upgrade optuna-caviar, or use the MLflow that it was installed with.",
        found or "none",
    )


def _open_experiment(connection: sqlite3.Connection, study: StudyIdentity, *, now_s: float) -> ShownExperiment | None:
    revisions = {revision for (revision,) in connection.execute("SELECT version_num FROM alembic_version")}
    workspaces = connection.execute("SELECT 1 FROM experiments WHERE workspace <> 'default' LIMIT 1").fetchone()
    if len(revisions) != 1 or not revisions <= REVISIONS:
        _warn_of_revision(", ".join(sorted(revisions)))
        return None
    if workspaces:
        return None
    row = connection.execute(
        "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = ?", (study.name,)
    ).fetchone()
    location = row[1] if row else study.artifact_location
    if location is None or not _is_plain_location(location) or (row and row[2] != "active"):
        return None
    tags = dict(connection.execute(_EXPERIMENT_TAGS, (study.name,)).fetchall())
    wanted = wanted_tags(study, tags)
    if not all(is_accepted_name(key) and len(value) <= _PLAIN_LENGTH["value"] for key, value in wanted.items()):
        return None
    experiment_id = row[0] if row else _create_experiment(connection, study, now_s=now_s)
    changed = [(key, value, experiment_id) for key, value in wanted.items() if tags.get(key) != value]
    connection.executemany(_EXPERIMENT_TAG, changed)
    return ShownExperiment(experiment_id, location, load_view(tags.get(VIEW_TAG)))


def _is_plain_location(location: str) -> bool:
    """Return whether a run's directory is this, a slash and its id, as far as MLflow is concerned."""
    is_short = len(location) <= _PLAIN_LENGTH["location"]
    return is_short and re.fullmatch(r"(file://)?/[^?#]*[^?#/]", location) is not None


def _create_experiment(connection: sqlite3.Connection, study: StudyIdentity, *, now_s: float) -> int:
    moment = round(1000 * now_s)
    cursor = connection.execute(
        "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace)"
        " VALUES (?, ?, 'active', ?, ?, 'default')",
        (study.name, study.artifact_location, moment, moment),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _write_runs(
    connection: sqlite3.Connection,
    contents: Iterable[RunContent],
    experiment: ShownExperiment,
    known: dict[int, tuple[str, str]],
) -> frozenset[int]:
    """Write what each run lacks, and return the numbers of those that lacked something."""
    points: dict[str, set[tuple[str, int]]] = {}
    changed = set()
    for content in contents:
        run_id, status = known.get(content.number, (None, content.status))
        if content.end_ms is None and status in FINAL_STATUSES:
            continue  # the trial was read before it ended, and somebody else wrote its end meanwhile
        before = connection.total_changes
        tags: Mapping[str, str] = content.tags
        if run_id is None:
            run_id = uuid.uuid4().hex
            points[run_id] = set()
            artifacts = f"{experiment.artifact_location}/{run_id}/artifacts"
            row = (run_id, content.name, content.status, content.start_ms, content.end_ms, artifacts)
            connection.execute(_NEW_RUN, (*row, experiment.experiment_id))
            tags = {**content.first_tags, **content.tags, "mlflow.runName": content.name}
        elif run_id not in points:
            found = connection.execute("SELECT key, step FROM metrics WHERE run_uuid = ?", (run_id,))
            points[run_id] = set(found.fetchall())
        known[content.number] = run_id, content.status
        new = [point for point in content.points if (point.key, point.step) not in points[run_id]]
        points[run_id].update((point.key, point.step) for point in new)
        connection.executemany(_POINT, [(p.key, p.value, p.time_ms, run_id, p.step) for p in new])
        latest = {p.key: p for p in sorted(new, key=lambda p: (p.step, p.time_ms, p.value))}  # as MLflow ranks them
        connection.executemany(_LATEST, [(p.key, p.value, p.time_ms, run_id, p.step) for p in latest.values()])
        connection.executemany(_PARAM, [(key, value, run_id) for key, value in content.params.items()])
        connection.executemany(_TAG, [(key, value, run_id) for key, value in tags.items()])
        if content.data is not None:
            _write_data(connection, content.data, run_id, experiment.experiment_id)
        connection.execute(_OLD_RUN, (content.status, content.end_ms, run_id, content.status))
        if connection.total_changes > before:
            changed.add(content.number)
    return frozenset(changed)


def _write_data(connection: sqlite3.Connection, data: StudyData, run_id: str, experiment_id: int) -> None:
    """Make the data set an input of a run; a study has one row for it, whatever the number of its runs."""
    key = (experiment_id, data.shown_name, data.digest)
    row = (*key, SOURCE_TYPE, data.source, data.profile)
    connection.execute(_DATA_SET, (uuid.uuid4().hex, *row))
    (data_id,) = connection.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?", key
    ).fetchone()
    input_id = uuid.uuid4().hex
    if connection.execute(_INPUT, (input_id, data_id, run_id)).rowcount > 0:
        connection.execute(_INPUT_TAG, (input_id, *CONTEXT_TAG))
