"""Pages opened in a real browser, Debian's chromium without a screen."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_START_S = 60.0
_SHOW_S = 60.0

#: Marks of a test that needs the browser.
BROWSER = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], *, ready: str, environment: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Run a server until the block ends, from when it says that it is ready."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=cwd,
        start_new_session=True,
    )
    deadline = threading.Timer(_START_S, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if ready in line:
                break
        else:
            pytest.fail(f"{command[0]} did not start within {_START_S:.0f} s:\n{''.join(said)}")
        deadline.cancel()
        yield
    finally:
        deadline.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # the server and its workers, in a session of their own
        process.communicate(timeout=30)


@contextlib.contextmanager
def serving_mlflow(address: str, *, tracking_uri: str, cwd: Path) -> Iterator[None]:
    """Run MLflow's pages at an address, such as ``http://127.0.0.1:5000``, until the block ends."""
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri, "--default-artifact-root", str(cwd / "mlartifacts")]
    light = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, ready="Application startup complete", environment=light, cwd=cwd):
        yield


def open_page(address: str, profile: Path, *texts: str) -> str:
    """Return the page as it stands once it shows the texts.

    Chromium's virtual time waits for what the scripts fetch, but a busy server's last answers can come after it: such
    a page is opened again.

    Raises:
        pytest.fail.Exception: Texts are still missing after a minute.
    """
    deadline = time.monotonic() + _SHOW_S
    while True:
        page = _dump(address, profile)
        missing = [text for text in texts if text not in page]
        if not missing:
            return page
        if time.monotonic() > deadline:
            pytest.fail(f"{address} does not show {missing}")


def _dump(address: str, profile: Path) -> str:
    assert _CHROMIUM is not None
    result = subprocess.run(
        [
            _CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "--window-size=1600,1200",
            "--virtual-time-budget=10000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout
