"""The pages' commands on a home of any name, and after it was moved."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from caviar.commands.pages import dashboard_server, mlflow_command
from caviar.errors import SpecError
from caviar.record import prepare_tracking
from caviar.storage.home import locate_home

ROOT = Path(__file__).parents[2]
ODD = "José's {a}, %41? #$x"


def test_mlflow_s_page_of_a_moved_home_finds_its_artifacts(prepared_home: Path, tmp_path: Path) -> None:
    first = locate_home(prepared_home)
    prepare_tracking(first.tracking_uri, artifact_location=first.mlflow_artifacts.as_uri())
    moved = locate_home(Path(shutil.move(prepared_home, tmp_path / ODD)))
    command = mlflow_command(moved, port=5000)
    root = moved.mlflow_artifacts.as_uri()
    assert command[-4:] == ["--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", root]
    with contextlib.closing(sqlite3.connect(moved.path / "mlflow.db")) as connection:
        assert connection.execute("SELECT artifact_location FROM experiments").fetchall() == [(f"{root}/0",)]
    assert [path.name for path in tmp_path.iterdir()] == [ODD]


def test_optuna_dashboard_of_a_home_of_any_name_is_served(tmp_path: Path) -> None:
    home = locate_home(tmp_path / ODD)
    with dashboard_server(home, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert httpx.get(f"{address}/api/studies", trust_env=False).json() == {"study_summaries": []}
        assert "Optuna Dashboard" in httpx.get(f"{address}/dashboard", trust_env=False).text
        assert httpx.get(f"{address}/api/meta", trust_env=False).json()["artifact_is_available"]
        with pytest.raises(SpecError, match="cannot be served: Address already in use"):
            dashboard_server(home, port=server.server_port)
        server.shutdown()
    assert (home.path / "optuna.db").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("named", ["environment", "make"])
def test_make_hands_a_home_of_any_name_over_unchanged(named: str, tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "installed").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f"#!{sys.executable}\nimport os, sys\nprint(sys.argv[1:], os.environ['CAVIAR_HOME'])\n")
    python.chmod(0o755)
    environment = {**os.environ, "CAVIAR_HOME": ODD if named == "environment" else "not this one"}
    given = [] if named == "environment" else [f"HOME_DIR={ODD.replace('$', '$$')}"]
    makefile = ["--silent", "-f", str(ROOT / "Makefile"), "--old-file=.venv/installed", "mlflow"]
    made = subprocess.run(
        ["make", *makefile, *given], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert made.stdout == f"['-m', 'caviar.commands.pages', 'mlflow'] {ODD}\n"
