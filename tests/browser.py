"""Pages opened in a real browser, Debian's chromium without a screen."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .processes import wait_until

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1600,1200"),
)
_START_S = 60.0
_SHOW_S = 60.0
_PATIENCE_S = 8.0  # until a page is loaded again

#: Marks of a test that needs the browser.
BROWSER = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (_CHROMIUM and _DRIVER), reason="needs chromium and its driver (Debian: apt-get install chromium-driver)"
    ),
]


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
            os.killpg(process.pid, signal.SIGKILL)  # with its workers, in a session of their own; it waits for no page
        process.communicate(timeout=30)


@contextlib.contextmanager
def serving_mlflow(address: str, *, tracking_uri: str, cwd: Path) -> Iterator[None]:
    """Run MLflow's pages at an address, such as ``http://127.0.0.1:5000``, until the block ends."""
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri, "--default-artifact-root", str(cwd / "mlartifacts")]
    light = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, ready="Application startup complete", environment=light, cwd=cwd):
        yield


class Browser:
    """Chromium without a screen, which starts once for many pages.

    Attributes:
        driver: Selenium's.
    """

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = _CHROMIUM or ""
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))

    def open(self, address: str, *texts: str) -> str:
        """Return the page as it stands once it shows the texts.

        On a busy machine, MLflow's and optuna-dashboard's pages forget to draw some: they are loaded again then.

        Raises:
            pytest.fail.Exception: Texts are still missing after a minute.
        """
        self.leave()  # else an address that differs after its # would load nothing
        self.driver.get(address)
        begun = loaded = time.monotonic()
        while True:
            page = str(self.driver.page_source)
            missing = [text for text in texts if text not in page]
            if not missing:
                return page
            now = time.monotonic()
            if now > begun + _SHOW_S:
                pytest.fail(f"{address} does not show {missing}")
            if now > loaded + _PATIENCE_S:
                self.driver.refresh()
                loaded = now
            time.sleep(0.2)

    def wait_for(self, script: str) -> None:
        """Wait until JavaScript says so on the page that is open."""
        wait_until(lambda: bool(self.driver.execute_script(f"return {script}")), timeout_s=_SHOW_S, poll_s=0.2)

    def leave(self) -> None:
        """Leave the page, whose scripts would work on."""
        self.driver.get("about:blank")

    def close(self) -> None:
        self.driver.quit()
