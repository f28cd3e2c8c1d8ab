"""Opening MLflow's tracking store: quietly, quickly, and created once however many processes come at once."""

import contextlib
import importlib.metadata
import logging
import os
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from ..errors import FatalError, StorageError
from ..imports import describe_error
from ..storage.addresses import masked, sqlite_path, sqlite_url, store_kind
from ..storage.connecting import DRIVERS, OPTIONS, TAKE_LOCK, connection_options
from ..storage.templates import create_from_template, keep_template
from ..user_cache import sources_digest
from .artifact_places import move_artifacts_here
from .mlflow_private import database_engine, quiet_mlflow

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_logger = logging.getLogger(__name__)

# What MLflow should do unless the user decided otherwise. Its own defaults retry for four minutes, with a trial
# waiting, and print links to stdout, where our results go.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})
_SCHEMES = DATABASES | {"http", "https", "file", "databricks"}
BUSY_TIMEOUT_S = 20.0  # as long as MLflow itself waits for a locked SQLite file
_connecting = threading.Lock()  # warnings.catch_warnings is not safe in threads


def prepare_tracking(tracking_uri: str, *, artifact_location: str | None = None) -> None:
    """Create MLflow's SQLite database where there is none; call it in the parent, before workers start.

    Workers that open a fresh database at once crash (``duplicate column name``). Creating the schema takes three
    seconds, so it is done once and copied; an existing database is only looked at, without importing mlflow. The file
    appears complete or not at all, in WAL mode. Other stores prepare themselves.

    Args:
        tracking_uri: As MLflow takes it, such as ``sqlite:///runs/mlflow.db`` or ``http://host:5000``.
        artifact_location: The directory of the artifacts as a URI. Where it stands beside the database, as in a home,
            the database is made to name it: the home may have been moved or copied since.

    Raises:
        StorageError: If MLflow has no such kind of store, or the file cannot be written, or belongs to Optuna or to
            something else.
    """
    _check_scheme(tracking_uri)
    path = _own_file(tracking_uri)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists() and path.stat().st_size > 0:
                _check_database(path)
            else:
                create_from_template(path, _template_name(), _migrate)
            root = None if artifact_location is None else Path(unquote(urlsplit(artifact_location).path))
            if root is not None and root.parent.resolve() == path.parent:
                with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
                    move_artifacts_here(connection, root)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"MLflow's database {path} cannot be used: {error}. "
            "It must be a SQLite file that can be written, in a directory that can be written: "
            "give another home with --home or another store with --tracking-uri."
        ) from error


def _own_file(tracking_uri: str) -> Path | None:
    """Return the SQLite file that is made where it is missing; SQLite's own addresses, with access modes, are not."""
    return None if "uri=true" in tracking_uri else sqlite_path(tracking_uri)


def _check_scheme(tracking_uri: str) -> None:
    """Refuse an address that no MLflow could ever open; one whose server is down is another matter."""
    scheme, separator, _ = tracking_uri.partition("://")
    if not separator or scheme.split("+")[0] in _SCHEMES:
        return
    if scheme not in importlib.metadata.entry_points(group="mlflow.tracking_store").names:
        raise StorageError(
            f"MLflow has no store of the kind {scheme!r}. Give --tracking-uri (MLFLOW_TRACKING_URI) "
            "http://HOST:PORT, sqlite:///FILE, or another address that MLflow takes."
        )


def connect(tracking_uri: str, *, artifact_location: str | None = None) -> "MlflowClient":
    """Return a client of the store, prepared as `prepare_tracking` says; no global tracking URI is set.

    Raises:
        Exception: Any of `tracking_errors`, when the store cannot be opened.
    """
    prepare_tracking(tracking_uri, artifact_location=artifact_location)
    import_mlflow()
    try:
        with _reached(tracking_uri):
            return _open_client(tracking_uri)
    except ModuleNotFoundError as error:  # the driver of a PostgreSQL or MySQL store
        raise StorageError(
            f"MLflow's store {masked(tracking_uri)} needs the package {error.name!r}. Install it, or give another "
            "store with --tracking-uri."
        ) from error


def _open_client(tracking_uri: str) -> "MlflowClient":
    import sqlalchemy
    from mlflow.tracking import MlflowClient

    literal = Path(tracking_uri.removeprefix("sqlite:///")).parent
    existed = not tracking_uri.startswith("sqlite:///") or literal.exists()
    with _connecting, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow 3.17 configures its tables with options that sqlalchemy 2.1 deprecates
        client = MlflowClient(tracking_uri)
        engine = database_engine(client)
        if engine is not None and engine.dialect.name in _TUNED:
            event, tune = _TUNED[engine.dialect.name]
            if not sqlalchemy.event.contains(engine, event, tune):
                sqlalchemy.event.listen(engine, event, tune)
                engine.dispose()  # MLflow has opened a connection already
    if not existed:  # MLflow makes the directory of an address without unquoting it
        with contextlib.suppress(OSError):
            os.removedirs(literal)
    return client


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Hold back what MLflow and the packages it uses warn of while they are imported; nobody here can act."""
    with _connecting, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_mlflow() -> None:
    """Import mlflow with our defaults for its environment variables; those that the user set stay."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with quiet_imports():
        try:
            import mlflow.tracking  # noqa: F401
        except ImportError as error:
            raise FatalError(
                f"MLflow cannot be imported: {describe_error(error)}. `{sys.executable} -c 'import mlflow'` shows the "
                "whole error. Repair the installation, or install MLflow again."
            ) from error


def tracking_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow, its HTTP client and its database raise when the store is down or refuses.

    What is not loaded has raised nothing, so MLflow, which takes a second, is not loaded to learn its exception.
    """
    import sqlalchemy.exc

    # OSError: requests' exceptions too.
    errors = (StorageError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)
    mlflow_exceptions = sys.modules.get("mlflow.exceptions")
    return errors if mlflow_exceptions is None else (*errors, mlflow_exceptions.MlflowException)


def _check_database(path: Path) -> None:
    """Raise unless this is MLflow's database and can be written; put it in WAL mode."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables >= {"studies", "trials"}:
            raise StorageError(
                f"{path} is an Optuna database; MLflow and Optuna in one SQLite file break each other. "
                "Give MLflow a file of its own, such as --tracking-uri sqlite:///runs/mlflow.db."
            )
        if not tables >= {"experiments", "runs", "alembic_version"}:
            raise StorageError(
                f"{path} is a SQLite database, but not one of MLflow's: it has the tables "
                f"{', '.join(sorted(tables)[:6]) or 'none'}. Give MLflow a file of its own with --tracking-uri."
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")  # raises if the file cannot be written
        connection.rollback()


@contextlib.contextmanager
def _reached(tracking_uri: str) -> Iterator[None]:
    """Raise at once if a database cannot be reached: MLflow itself tries to connect for 100 s, with a trial waiting.

    A PostgreSQL database without tables is locked: processes that let MLflow fill it at once crash.
    """
    import sqlalchemy
    import sqlalchemy.pool

    if store_kind(tracking_uri) not in DATABASES:
        yield
        return
    options = connection_options(sqlalchemy.make_url(tracking_uri))
    engine = sqlalchemy.create_engine(tracking_uri, poolclass=sqlalchemy.pool.NullPool, connect_args=options)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            is_empty = "SELECT to_regclass('alembic_version') IS NULL"
            if connection.execute(sqlalchemy.text(is_empty)).scalar_one():
                connection.execute(sqlalchemy.text(TAKE_LOCK))  # it lasts as long as the connection
                connection.commit()
        yield


def prepare_template(tracking_uri: str) -> None:
    """Make what `prepare_tracking` copies where there is no database yet; nothing is written to the home.

    It takes three seconds, once for a user and a version of MLflow, in which others can do something else.
    """
    path = _own_file(tracking_uri)
    if path is not None and not path.exists():
        keep_template(_template_name(), _migrate)


def _template_name() -> str:
    versions = "-".join(importlib.metadata.version(name) for name in ("mlflow", "sqlalchemy"))
    return f"mlflow-{versions}-{sources_digest('record')}.db"


def _migrate(path: Path) -> None:
    import_mlflow()
    try:
        path.touch()
        with quiet_mlflow():
            client = _open_client(sqlite_url(path))
            client.search_experiments(max_results=1)
        engine = database_engine(client)
        if engine is not None:
            engine.dispose()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    except tracking_errors() as error:
        raise StorageError(f"MLflow could not create its database {path}: {masked(str(error))}") from error


def _set_synchronous_normal(connection: sqlite3.Connection, _record: object) -> None:
    """Let commits in WAL mode not wait for the disk: a power cut loses the last records, which a sync fills."""
    connection.execute("PRAGMA synchronous = NORMAL")


def _notice_cuts(dialect: Any, _record: object, _address: object, options: dict[str, Any]) -> None:
    """Have a connection to a PostgreSQL server notice that it was cut off; what the address says stays."""
    if dialect.driver in DRIVERS:
        for name, value in OPTIONS.items():
            options.setdefault(name, value)


#: What is done to MLflow's connections, by kind of database: on which event of its engine, and what.
_TUNED: Final[dict[str, tuple[str, Callable[..., None]]]] = {
    "sqlite": ("connect", _set_synchronous_normal),
    "postgresql": ("do_connect", _notice_cuts),
}
