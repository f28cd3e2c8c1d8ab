"""The pages of optuna-dashboard and MLflow on a home: ``python -m caviar.commands.pages dashboard|mlflow``.

For the Makefile, which names the home by ``CAVIAR_HOME``: no quoting for a shell stands between the two. Both servers
start in the home, so that no quoting for an address does either.
"""

import os
import sys
from pathlib import Path

from ..errors import CaviarError
from ..record.tracking import prepare_tracking
from ..storage.home import Home, locate_home, prepare_home

PORTS = {"dashboard": 8080, "mlflow": 5000}


def page_command(name: str, home: Home, *, port: int) -> list[str]:
    """Prepare a home to be looked at, and return the command that serves its pages when it is started there.

    Args:
        name: ``dashboard`` or ``mlflow``.
        home: Created if it is missing; MLflow's artifacts are found in it after it was moved or copied.
        port: Of 127.0.0.1.

    Raises:
        StorageError: If the home cannot be written.
    """
    prepare_home(home)
    where = ("--host", "127.0.0.1", "--port", str(port))
    if name == "dashboard":
        home.artifacts.mkdir(exist_ok=True)
        return ["optuna-dashboard", *where, "--artifact-dir", home.artifacts.name, "sqlite:///optuna.db"]
    root = home.mlflow_artifacts.as_uri()
    prepare_tracking(home.tracking_uri, artifact_location=root)
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", root)
    return ["mlflow", "server", *where, "--workers", "1", *store]


def main() -> None:
    """Become the server of the page that the first argument names."""
    name = sys.argv[1]
    home = locate_home(Path(os.environ.get("CAVIAR_HOME") or "runs"))
    try:
        command = page_command(name, home, port=PORTS[name])
    except CaviarError as error:
        sys.exit(f"Error: {error}")
    os.chdir(home.path)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execv(Path(sys.executable).with_name(command[0]), command)  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main()
