"""Every use of MLflow's private parts.

Checked with MLflow 3.17.2, to which pyproject.toml is bound; tests/record/test_mlflow_private.py tries each.
"""

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow.tracking import MlflowClient

#: The revisions of MLflow's tables that `sqlite_runs` writes: a run costs it 1 ms of CPU, and MLflow's client 30.
REVISIONS: Final = frozenset({"dc11669786a5"})  # 3.17


def mlflow_revisions() -> tuple[str, frozenset[str]] | None:
    """Return the schema version that the installed MLflow expects of a database, and all that it knows.

    MLflow has no public way to it, and alembic's takes 3 s, because it imports mlflow by running every migration's
    file. These are read as text here; where they no longer look like that, None is returned and nothing is said.
    """
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        return None
    texts = [path.read_text("utf-8") for path in Path(spec.origin).parent.glob("store/db_migrations/versions/*.py")]
    known = {name for text in texts for name in re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)}
    below = {
        name
        for text in texts
        for line in re.findall(r"^down_revision = (.*)", text, re.MULTILINE)
        for name in re.findall(r'"(\w+)"', line)
    }
    heads = known - below
    return (heads.pop(), frozenset(known)) if len(heads) == 1 else None


def database_engine(client: "MlflowClient") -> "sqlalchemy.Engine | None":
    """Return the engine of the client's database, or None for other stores.

    MLflow has no public way to its engine. Without it a commit waits for the disk four times a trial (33 ms instead
    of 22 ms) and a database that is moved into place would keep its connections; both are savings, not needs.
    """
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    engine: sqlalchemy.Engine | None = getattr(store, "engine", None)
    return engine


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Hold back MLflow's log lines and tracebacks in this thread: what matters comes as an exception.

    Its loggers are public, but a level holds for all threads, and other threads may be the user's.
    """
    from mlflow.utils.logging_utils import suppress_logs, suppress_logs_in_thread

    with (
        suppress_logs_in_thread(),
        suppress_logs("urllib3.connectionpool", re.compile("Retrying")),
        suppress_logs("mlflow.store.db.utils", re.compile("SQLAlchemy database error")),  # where loggers propagate
    ):
        yield


def delete_artifacts(artifact_uri: str, folder: str, *, tracking_uri: str) -> None:
    """Delete a folder of a run's artifacts: MLflow's client only adds some.

    Where a server passes artifacts on, their address names no host, and the tracking address does.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)  # its methods have no types
    repository.delete_artifacts(folder)
