"""Serving a home's pages of optuna-dashboard or MLflow: ``python -m caviar.commands.pages dashboard|mlflow``.

The Makefile calls this, with the home in ``CAVIAR_HOME``, so that no shell has to quote it. Both servers start in the
home, so that no address has to quote it either.
"""

import os
import sys
from pathlib import Path

from ..errors import CaviarError
from ..record.tracking import prepare_tracking
from ..storage.home import Home, locate_home, prepare_home

PORTS = {"dashboard": 8080, "mlflow": 5000}


def page_command(name: str, home: Home, *, port: int) -> list[str]:
    """Prepare a home, and return the command that serves its pages, ``dashboard`` or ``mlflow``, when started there.

    A missing home is created. In one that was moved or copied, MLflow finds its artifacts again.
    """
    prepare_home(home)
    where = ("--host", "127.0.0.1", "--port", str(port))
    if name == "dashboard":
        artifacts = _dashboard_artifacts(home)
        return ["optuna-dashboard", *where, *artifacts, "sqlite:///optuna.db"]
    root = home.mlflow_artifacts.as_uri()
    prepare_tracking(home.tracking_uri, artifact_location=root)
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", root)
    return ["mlflow", "server", *where, "--workers", "1", *store]


def _dashboard_artifacts(home: Home) -> tuple[str, ...]:
    """Return the option that names the artifacts; optuna-dashboard's own command reads directories alone."""
    if not isinstance(home.artifacts, Path):
        return ()
    home.artifacts.mkdir(exist_ok=True)
    return ("--artifact-dir", home.artifacts.name if home.files == home.path else str(home.artifacts))


def main() -> None:
    """Become the server that the first argument names."""
    name = sys.argv[1]
    home = locate_home(Path(os.environ.get("CAVIAR_HOME") or "runs"), files=os.environ.get("CAVIAR_FILES"))
    try:
        command = page_command(name, home, port=PORTS[name])
    except CaviarError as error:
        sys.exit(f"Error: {error}")
    os.chdir(home.path)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execv(Path(sys.executable).with_name(command[0]), command)  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main()
