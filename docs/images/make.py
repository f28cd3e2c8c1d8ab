"""Take the docs' pictures in a real browser: the report, optuna-dashboard, MLflow's charts and the service's pages.

    python docs/images/make.py [HOME]

Without a home, the study of studies/digits.toml is run in a temporary one first. Needs Debian's chromium.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from caviar.record import MlflowMirror
from caviar.storage.home import Home, locate_home

IMAGES = Path(__file__).parent
STUDY = IMAGES.parents[1] / "studies" / "digits.toml"
#: A learning rate that is too high for the network, and so worth lowering.
STEERED = """name = "steered"
data = { dataset = "digits" }
objective = { epochs = 2000 }
search = { trials = 1, workers = 1, pruner = "none" }

[space]
optimizer = "adam"
learning_rate = { low = 0.02, high = 0.03 }
depth = 3
units = 256
"""
_WAIT_S = 180.0
_LARGEST_BYTES = 250_000


class Browser:
    """One page in headless Chromium, steered by its DevTools protocol over a pair of pipes.

    Chromium's own ``--screenshot`` cannot wait until a server has answered.
    """

    def __init__(self, profile: Path, *, width: int, height: int, dark: bool = False) -> None:
        chromium = shutil.which("chromium") or sys.exit("Needs chromium (Debian: apt-get install chromium).")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        size = f"--window-size={width},{height}"
        command = [chromium, *flags, size, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._answers = os.fdopen(self._from, "rb")
        self._n_sent = 0
        self._session: str | None = None
        page = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        view = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **view)
        if dark:
            features = [{"name": "prefers-color-scheme", "value": "dark"}]
            self._call("Emulation.setEmulatedMedia", features=features)

    def _call(self, method: str, **params: Any) -> Any:
        self._n_sent += 1
        message = {"id": self._n_sent, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read_message())
            if answer.get("id") == self._n_sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read_message(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium ended.")
            message += byte
        return bytes(message)

    def run(self, script: str) -> Any:
        """Return what an expression of JavaScript gives in the page."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, address: str, *shown: str) -> None:
        """Open an address, and wait until the page shows all these texts, those of its charts included.

        Raises:
            TimeoutError: If it does not within two minutes.
        """
        self._call("Page.navigate", url=address)
        for text in shown:
            self.wait(f"document.body?.textContent.includes({json.dumps(text)})")

    def wait(self, script: str) -> None:
        """Wait until an expression of JavaScript is true in the page.

        Raises:
            TimeoutError: If it is not within two minutes.
        """
        deadline = time.monotonic() + _WAIT_S
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The page never came to {script}")
            time.sleep(0.5)

    def take(self, name: str) -> None:
        """Save what the window shows, in 128 colours."""
        time.sleep(5)  # charts fade in after their titles
        png = b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        path = IMAGES / f"{name}.png"
        Image.open(BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        n_bytes = path.stat().st_size
        print(f"{path}: {n_bytes // 1000} kB")
        if n_bytes > _LARGEST_BYTES:
            sys.exit(f"{path} is larger than {_LARGEST_BYTES // 1000} kB. Take a smaller window.")

    def close(self) -> None:
        """End Chromium."""
        with contextlib.suppress(RuntimeError):
            self._session = None
            self._call("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._to)
        self._answers.close()


@contextlib.contextmanager
def serving(name: str, home: Home) -> Iterator[str]:
    """Serve a page of a home, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "caviar.commands.pages", name, str(port)],
        env={**os.environ, "CAVIAR_HOME": str(home.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _WAIT_S
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start.")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextlib.contextmanager
def serving_all(home: Home) -> Iterator[str]:
    """Run `caviar serve` on a home, and give its address."""
    command = [sys.executable, "-m", "caviar", "serve", "--home", str(home.path), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield json.loads(server.stdout.readline())["address"]
    finally:
        server.terminate()
        server.wait(timeout=30)


def take_service_pictures(home: Home, profile: Path) -> None:
    """Take the service's pages while the digits study runs, which is started in its form."""
    curves = "Number(document.getElementById('curves')?.dataset.points)"
    with serving_all(home) as address:
        with contextlib.closing(Browser(profile / "service", width=1100, height=1000)) as browser:
            browser.open(f"{address}/new", "New study")
            browser.run(f"document.getElementById('text').value = {json.dumps(STUDY.read_text('utf-8'))}")
            browser.run("document.querySelector('#study-form button[type=submit]').click()")
            browser.wait(f"{curves} > 400")
            browser.take("service")
        with contextlib.closing(Browser(profile / "telephone", width=390, height=844, dark=True)) as browser:
            browser.open(f"{address}/studies/digits", "Learning curves")
            browser.wait(f"{curves} > 400")
            browser.take("service-telephone")
        with contextlib.closing(Browser(profile / "control", width=1100, height=1150)) as browser:
            take_steered(browser, address)
        for run in json.loads(urllib.request.urlopen(f"{address}/v1/runs").read()):
            stop = urllib.request.Request(
                f"{address}/v1/runs/{run['id']}/stop", headers={"X-Caviar": "1"}, method="POST"
            )
            urllib.request.urlopen(stop).close()


def take_steered(browser: Browser, address: str) -> None:
    """Take a trial's curve after its learning rate was lowered by hand, in the page."""
    browser.open(f"{address}/new", "New study")
    browser.run(f"document.getElementById('text').value = {json.dumps(STEERED)}")
    browser.run("document.querySelector('#study-form button[type=submit]').click()")
    browser.wait("Number(document.getElementById('curves')?.dataset.points) > 60")
    browser.run("document.getElementById('control-value').value = '0.001'")
    browser.run("document.querySelector('#control-form button[type=submit]').click()")
    browser.wait("Number(document.getElementById('curves')?.dataset.changes) === 1")
    before = browser.run("Number(document.getElementById('curves').dataset.points)")
    browser.wait(f"Number(document.getElementById('curves').dataset.points) > {before + 60}")
    browser.take("service-control")


def take_pictures(home: Home, profile: Path) -> None:
    """Take the pictures of a home that holds the digits study and its report."""
    with contextlib.closing(Browser(profile / "report", width=1100, height=1300)) as browser:
        browser.open((home.path / "reports" / "digits.html").as_uri(), "What to try next", "Importance")
        browser.take("report")
    with (
        serving("dashboard", home) as address,
        contextlib.closing(Browser(profile / "dashboard", width=1400, height=1080)) as browser,
    ):
        browser.open(f"{address}/dashboard/studies/1", "History", "Hyperparameter Importance")
        browser.wait("document.querySelector('#graph-hyperparameter-importances .point')")
        browser.take("optuna-dashboard")
    with (
        serving("mlflow", home) as address,
        contextlib.closing(Browser(profile / "mlflow", width=1600, height=1300)) as browser,
    ):
        link = MlflowMirror(home.tracking_uri, study_name="digits").experiment_link(address)
        assert link is not None
        browser.open(link, "Complete trials, by value", "All trials, by epoch")
        for label in ("Close", "Hide banner"):  # MLflow's assistant, and its note that the view is a shared one
            browser.wait(f"document.querySelector('button[aria-label=\"{label}\"]')")
            browser.run(f"document.querySelector('button[aria-label=\"{label}\"]').click()")
        browser.wait("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 9")  # three charts in sight
        browser.take("mlflow")


def main() -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        home = locate_home(Path(sys.argv[1] if len(sys.argv) > 1 else scratch) / "")
        if len(sys.argv) == 1:
            for verb in (["run", str(STUDY)], ["report", "digits"]):
                subprocess.run([sys.executable, "-m", "caviar", *verb, "--home", str(home.path)], check=True)
        take_pictures(home, Path(scratch) / "profiles")
        take_service_pictures(locate_home(Path(scratch) / "served"), Path(scratch) / "profiles")


if __name__ == "__main__":
    main()
