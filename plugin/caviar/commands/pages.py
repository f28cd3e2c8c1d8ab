"""Serving a home's pages of optuna-dashboard or MLflow: ``python -m caviar.commands.pages dashboard|mlflow [PORT]``.

The Makefile calls this, with the home in ``CAVIAR_HOME``, so that no shell has to quote it. MLflow's server starts in
the home, so that no address has to quote it either.
"""

import contextlib
import os
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ..errors import CaviarError, SpecError
from ..record.tracking import prepare_tracking
from ..storage.home import Home, locate_home, prepare_home

PORTS = {"dashboard": 8080, "mlflow": 5000}


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Says nothing of requests; a page asks every ten seconds."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def mlflow_command(home: Home, *, port: int) -> list[str]:
    """Prepare a home, and return the command that serves MLflow's pages of it, when started there.

    A missing home is created. In one that was moved or copied, MLflow finds its artifacts again.
    """
    prepare_home(home)
    root = home.mlflow_artifacts.as_uri()
    prepare_tracking(home.tracking_uri, artifact_location=root)
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", root)
    return ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]


def dashboard_server(home: Home, *, port: int) -> WSGIServer:
    """Prepare a home, and return a server that listens for optuna-dashboard's pages of it; a missing home is created.

    The newest studies are made ready in a thread of their own meanwhile.

    Raises:
        SpecError: If the port cannot be listened on.
        StorageError: If the home or its database cannot be opened.
    """
    from ..insight.dashboard_program import dashboard_program  # imports optuna_dashboard: two seconds

    prepare_home(home)
    program = dashboard_program(home.storage, artifacts=home.artifacts)
    try:
        server = make_server("127.0.0.1", port, program, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise SpecError(f"Port {port} cannot be served: {error.strerror}. End what listens there.") from error
    program.make_ready_meanwhile()
    return server


def main() -> None:
    """Be the server that the first argument names, on the port that the second one names, if any."""
    name = sys.argv[1]
    port = int(sys.argv[2]) if len(sys.argv) > 2 else PORTS[name]
    home = locate_home(Path(os.environ.get("CAVIAR_HOME") or "runs"), files=os.environ.get("CAVIAR_FILES"))
    try:
        if name == "dashboard":
            with dashboard_server(home, port=port) as server, contextlib.suppress(KeyboardInterrupt):
                sys.stderr.write(f"Listening on http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)\n")
                server.serve_forever()
            return
        command = mlflow_command(home, port=port)
    except CaviarError as error:
        sys.exit(f"Error: {error}")
    os.chdir(home.path)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execv(Path(sys.executable).with_name(command[0]), command)  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main()
