"""Show a home in the pages of optuna-dashboard and MLflow; `make dashboard` and `make mlflow` run this module."""

import os
import sys
from pathlib import Path

from ..errors import StorageError
from ..record.artifacts import artifact_folder
from ..record.tracking import mlflow_address, prepare_tracking
from ..storage.home import Home, locate_home, prepare_home


def pages_command(home: Home, page: str) -> list[str]:
    """Return the command that serves a page, once its files are ready for it.

    Args:
        home: What to show.
        page: ``dashboard`` for optuna-dashboard, else MLflow.

    Raises:
        StorageError: If the home cannot be written.
    """
    prepare_home(home)
    programs = Path(sys.executable).parent
    if page == "dashboard":
        home.artifacts.mkdir(exist_ok=True)
        options = ["--host", "127.0.0.1", "--port", "8080", "--artifact-dir", str(home.artifacts)]
        return [str(programs / "optuna-dashboard"), *options, home.storage]
    prepare_tracking(home.tracking_uri)  # a home that was moved or copied has its artifacts elsewhere now
    folder = artifact_folder(home.tracking_uri) or home.mlflow_artifacts
    options = ["--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
    stores = ["--backend-store-uri", mlflow_address(home.tracking_uri), "--default-artifact-root", folder.as_uri()]
    return [str(programs / "mlflow"), "server", *options, *stores]


def main(page: str) -> None:
    """Become the program that serves a page of the home that CAVIAR_HOME names."""
    try:
        command = pages_command(locate_home(Path(os.environ.get("CAVIAR_HOME") or "runs")), page)
    except StorageError as error:
        sys.exit(f"Error: {error}")
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execv(command[0], command)  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main(sys.argv[1])
