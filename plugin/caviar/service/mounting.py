"""optuna-dashboard and MLflow's pages in the service's own process, under its address.

optuna-dashboard has absolute addresses, so it owns ``/dashboard``, ``/api``, ``/static``, ``/artifacts`` and ``/csv``.
MLflow's lie below ``/mlflow``. What its pages may do is listed: its API would register webhooks, keep secrets and take
any path as the place of artifacts. MLflow knows its store from its environment, so a process serves one home.
"""

import contextlib
import importlib.metadata
import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import StorageError
from ..insight.dashboard_program import WsgiProgram, dashboard_program
from ..record.tracking import DATABASES, connect, import_mlflow, prepare_tracking
from ..storage.addresses import store_kind
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from .answers import Refusal
from .security import is_below
from .wsgi import WsgiApp

MLFLOW: Final = "/mlflow"
#: The script that leads from their pages to ours.
FELLOW: Final = "/assets/fellow.js"
DASHBOARD: Final = ("/dashboard", "/api", "/static", "/artifacts", "/csv")
#: The versions whose private parts these are; tests/service/test_mounting.py tries both.
VERSIONS: Final = {"mlflow": "3.17.", "optuna-dashboard": "0.21."}

_READING: Final = frozenset({"GET", "HEAD"})
#: What MLflow's pages send to read, and to edit names, notes and tags.
_MLFLOW_POSTS: Final = re.compile(
    r"/mlflow/(graphql|(ajax-)?api/\d\.\d/?mlflow/("
    r"(experiments|runs|logged-models|datasets|traces|issues|prompt-optimization/jobs)/search"
    r"|experiments/(search-datasets|update|set-experiment-tag|delete-experiment-tag)"
    r"|runs/(update|set-tag|delete-tag|delete|restore)"
    r"|traces/(metrics|batchGetInfos|calculate-filter-correlation)"
    r"|registered-models/get-latest-versions"
    r"))"
)
#: A file that somebody stored, a page perhaps: it may run its scripts, but as a foreign page that can ask us nothing.
_STORED: Final = {"Content-Security-Policy": "sandbox allow-scripts", "X-Content-Type-Options": "nosniff"}
_environment_lock = threading.Lock()


class Dashboards:
    """Both dashboards of a home; nothing is loaded before they are first asked for.

    Args:
        home: Whose studies they show.
    """

    def __init__(self, home: Home) -> None:
        self._dashboard = WsgiApp(
            lambda: _optuna_dashboard(home),
            allowed=lambda method, _path: method in (*_READING, "POST", "PUT", "DELETE"),
            headers=lambda path: _STORED if path.startswith("/artifacts/") else {},
            script=FELLOW,
            pages=lambda path: is_below(path, ("/dashboard",)),
        )
        self._mlflow: ASGIApp
        if home.tracking_uri.startswith(("http://", "https://")):
            self._mlflow = _Elsewhere(home.tracking_uri)
        else:
            self._mlflow = WsgiApp(
                lambda: _mlflow_pages(home),
                allowed=_mlflow_allows,
                headers=lambda path: _STORED if path.endswith("/get-artifact") else {},
                script=FELLOW,
                pages=lambda path: path in (MLFLOW, f"{MLFLOW}/"),
            )

    def add_to(self, app: FastAPI) -> None:
        """Add their addresses to an app."""
        for prefix in DASHBOARD:
            app.mount(prefix, self._dashboard)
        app.mount(MLFLOW, self._mlflow)

    async def prepare(self) -> None:
        """Load both, which takes some seconds, so that the first who opens them need not wait."""
        for mounted in (self._dashboard, self._mlflow):
            if isinstance(mounted, WsgiApp):
                await mounted.prepare()


class _Elsewhere:
    """Leads to the pages of an MLflow server."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in _READING:
            raise Refusal(405, "MLflow is served elsewhere.")
        await RedirectResponse(f"{self._address}/", status_code=307)(scope, receive, send)  # keeps what follows the #


def _mlflow_allows(method: str, path: str) -> bool:
    return method in _READING or (method == "POST" and _MLFLOW_POSTS.fullmatch(path) is not None)


def _optuna_dashboard(home: Home) -> WsgiProgram:
    """Return optuna-dashboard's program, and make ready what is likely to be opened meanwhile."""
    _check_version("optuna-dashboard")
    program = dashboard_program(home.storage, artifacts=home.artifacts)
    program.make_ready_meanwhile()
    return program


def _mlflow_pages(home: Home) -> WsgiProgram:
    """Return MLflow's Flask program with everything below ``/mlflow``; its store is prepared first.

    Its FastAPI program would add an assistant that runs commands, a gateway and jobs, and nothing that its pages need.
    Both read MLflow's private environment variables when they are imported, and there is no public way.

    Raises:
        StorageError: If it cannot serve this store, or this process serves another one already.
    """
    _check_version("mlflow")
    kind = store_kind(home.tracking_uri)
    if kind not in (*DATABASES, "file"):
        raise StorageError(f"MLflow's pages need a database or a server, but the tracking URI's kind is {kind!r}.")
    prepare_tracking(home.tracking_uri, artifact_location=home.mlflow_artifacts.as_uri())
    import_mlflow()
    wanted = {
        "_MLFLOW_SERVER_FILE_STORE": home.tracking_uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": home.tracking_uri,  # else a database in the working directory
        "_MLFLOW_SERVER_ARTIFACT_ROOT": home.mlflow_artifacts.as_uri(),
        "_MLFLOW_STATIC_PREFIX": MLFLOW,
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # our guard has looked already, and knows the names
    }
    with _environment_lock:
        if "mlflow.server" in sys.modules and any(os.environ.get(name) != value for name, value in wanted.items()):
            raise StorageError("This process serves MLflow's pages of another home already. Start another process.")
        os.environ |= wanted
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # between MLflow and the packages it uses; nobody here can act
            from mlflow.server import app

    return app


def without_mlflow(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what tells MLflow that it is this server."""
    return {name: value for name, value in environment.items() if not name.startswith("_MLFLOW_")}


def _check_version(name: str) -> None:
    """Refuse a version whose private parts nobody has tried."""
    version = importlib.metadata.version(name)
    if not version.startswith(VERSIONS[name]):
        raise StorageError(f"{name} {version} is installed, but the service was tried with {VERSIONS[name]}x.")


def study_at(home: Home, storage: LeasedStorage, place: str) -> str | None:
    """Return the name of the study that a page of either dashboard shows, or None if it shows none.

    Args:
        home: Whose studies they show.
        storage: The home's.
        place: Path and fragment of the page's address.
    """
    if found := re.match(r"/dashboard/studies/(\d{1,9})\b", place):
        with contextlib.suppress(KeyError):
            return storage.get_study_name_from_id(int(found[1]))
    if found := re.match(r"/mlflow/?#/(?:compare-)?experiments/(?:s\?experiments=%5B%22)?(\d{1,20})", place):
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            return str(connect(home.tracking_uri).get_experiment(found[1]).name)
    return None


def dashboard_link(study_id: int) -> str:
    """Return where optuna-dashboard shows a study."""
    return f"/dashboard/studies/{study_id}"
