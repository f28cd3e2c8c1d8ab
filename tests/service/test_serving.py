"""`caviar serve` as a command: what it says, who may ask, and how it ends."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from caviar.cli import main
from caviar.errors import SpecError
from caviar.service.server import serve_home
from caviar.service.settings import TOKEN_FILE
from caviar.storage.home import locate_home

from ..ports import free_port
from .serving import serving_caviar

pytestmark = pytest.mark.slow


def test_a_service_of_this_machine_needs_no_token_and_ends_with_sigterm_though_somebody_watches(
    prepared_home: Path,
) -> None:
    with serving_caviar(prepared_home) as server, server.client(**{"X-Caviar": "1"}) as client:
        assert server.token is None, "this machine needs none"
        assert not (prepared_home / TOKEN_FILE).exists()
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        space = {"x": {"low": 0.0, "high": 1.0}}
        new = {"name": "asked", "direction": "minimize", "space": space, "trials": 1}
        client.post("/v1/asked", json=new).raise_for_status()
        with client.stream("GET", "/v1/studies/asked/stream") as stream:
            lines = stream.iter_lines()
            assert "event: picture" in (next(lines), next(lines), next(lines))
            began = time.monotonic()
            server.end()
            assert any("event: update" in line for line in lines) is False, "it ends in order"
        assert time.monotonic() - began < 10


def test_a_service_for_others_asks_for_a_token_that_it_shows_once(prepared_home: Path) -> None:
    options = ("--host", "0.0.0.0", "--name", "tuning.example.org")
    with serving_caviar(prepared_home, *options) as server:
        token = server.token
        assert token is not None
        assert (prepared_home / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
        with server.client() as client:
            assert client.get("/v1/studies").status_code == 401
            page = client.get("/", headers={"Accept": "text/html"})
            assert (page.status_code, page.headers["location"]) == (303, "/login")
            for path in ("/dashboard/", "/api/studies", "/mlflow/"):
                assert client.get(path).status_code == 401
        with server.client(Authorization=f"Bearer {token}", Host="tuning.example.org") as client:
            assert client.get("/v1/studies").json() == []
            assert client.get("/api/studies").status_code == 200
    with serving_caviar(prepared_home, *options) as server:
        assert server.token is None, "it was shown before"
        with server.client(Authorization=f"Bearer {token}") as client:
            assert client.get("/v1/studies").status_code == 200


def test_a_port_that_is_taken_is_told(prepared_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", "--home", str(prepared_home), "--port", port])
    assert result.exit_code == 2
    assert f"Port {port}" in result.output
    assert "Give another --port" in result.output


def test_ctrl_c_ends_a_service_in_order(prepared_home: Path) -> None:
    command = [sys.executable, "-m", "caviar", "serve", "--home", str(prepared_home), "--port", str(free_port())]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background would ignore it
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    assert httpx.get(f"{address}/login", trust_env=False, timeout=30).status_code == 200
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_an_address_that_is_not_this_machines_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be served"):
        serve_home(locate_home(tmp_path / "home"), host="1.2.3.4", port=free_port())
