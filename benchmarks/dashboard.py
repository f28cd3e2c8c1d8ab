"""How long optuna-dashboard takes to open a study of 5,000 trials, from the click to the drawn page.

Three servers take turns on one home: stock ``optuna-dashboard``, ``make dashboard``, and ``caviar serve``. Cold,
the study is opened as soon as the server answers; warm, once more 11 s later, when the stock one has forgotten it. By
HTTP, what the page asks for is fetched; in Chromium, the study is clicked in the list, and drawn once history,
importance and timeline are there, and the lines of intermediate values if the page has these. CPU seconds stand beside
each, since other work on the machine lengthens the rest.

Run from the project's root: ``python -m benchmarks.dashboard [--trials 5000]`` (some 3 minutes on 2 cores).
"""

import argparse
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.finished_study import make_finished_study
from tests.ports import free_port

from caviar.storage.home import Home, locate_home

SIDES = ("stock", "make dashboard", "caviar serve")
ASKED = ("/api/studies/1?after=0", "/api/studies/1/param_importances")
FORGETS_S = 11.0
_WAIT_S = 300.0
_LINK = "document.querySelector(\"a[href$='/dashboard/studies/1']\")"
_PARTS = ["#plot-history .trace", "#graph-hyperparameter-importances .point", "#graph-timeline .trace"]
_LINES = "#graph-intermediate-values"
_DRAWN = f"""
    const drawn = (one) => document.querySelectorAll(one).length > 0
    return {_PARTS}.every(drawn) && (!drawn("{_LINES}") || drawn("{_LINES} .trace"))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A study that was opened: seconds until it was there, CPU seconds of server and browser, and bytes if known."""

    seconds: float
    server_cpu_s: float
    browser_cpu_s: float = 0.0
    n_bytes: int = 0


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process and its children."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def serving(side: str, home: Home) -> Iterator[tuple[str, psutil.Process]]:
    """Serve a home; give the address as soon as the dashboard's page is answered, and the process."""
    port = str(free_port())
    commands = {
        "stock": [str(Path(sys.executable).with_name("optuna-dashboard")), "--port", port, str(home.storage)],
        "make dashboard": [sys.executable, "-m", "caviar.commands.pages", "dashboard", port],
        "caviar serve": [sys.executable, "-m", "caviar", "serve", "--home", str(home.path), "--port", port],
    }
    environment = {**os.environ, "CAVIAR_HOME": str(home.path)}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(commands[side], env=environment, **quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{address}/dashboard/", timeout=_WAIT_S, follow_redirects=True).raise_for_status()
                break
            assert process.poll() is None, f"{side} has ended"
            assert time.monotonic() < deadline, f"{side} does not answer"
            time.sleep(0.05)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def fetch(address: str, process: psutil.Process) -> Opened:
    """Ask for what the page asks for."""
    began, cpu, n_bytes = time.perf_counter(), cpu_s(process), 0
    with httpx.Client(base_url=address, timeout=_WAIT_S, trust_env=False) as client:
        for path in ASKED:
            with client.stream("GET", path) as answer:
                n_bytes += sum(len(part) for part in answer.iter_raw())
                assert answer.status_code == 200
    return Opened(seconds=time.perf_counter() - began, server_cpu_s=cpu_s(process) - cpu, n_bytes=n_bytes)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Give a browser without a screen."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1600,1200"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(_WAIT_S)
    try:
        yield driver
    finally:
        driver.quit()


def click(driver: Any, address: str, process: psutil.Process) -> Opened:
    """Click the study in the list, and wait until it is drawn."""
    driver.get(f"{address}/dashboard")
    wait_for(driver, f"return {_LINK} !== null")
    browser = psutil.Process(driver.service.process.pid)
    began, server_s, browser_s = time.perf_counter(), cpu_s(process), cpu_s(browser)
    driver.execute_script(f"{_LINK}.click()")
    wait_for(driver, _DRAWN)
    return Opened(
        seconds=time.perf_counter() - began,
        server_cpu_s=cpu_s(process) - server_s,
        browser_cpu_s=cpu_s(browser) - browser_s,
    )


def wait_for(driver: Any, script: str) -> None:
    """Wait until a script returns something true."""
    deadline = time.monotonic() + _WAIT_S
    while not driver.execute_script(script):
        assert time.monotonic() < deadline, "it was never drawn"
        time.sleep(0.05)


def measure(side: str, home: Home, *, browser: bool) -> dict[str, Opened]:
    """Open the study in two servers, one for HTTP and one for the browser; each cold, then warm."""
    opened: dict[str, Opened] = {}
    with serving(side, home) as (address, process):
        opened["HTTP, cold"] = fetch(address, process)
        time.sleep(FORGETS_S)
        opened["HTTP, warm"] = fetch(address, process)
    if browser:
        with chromium() as driver:
            driver.get("about:blank")
            with serving(side, home) as (address, process):
                opened["Chromium, cold"] = click(driver, address, process)
                time.sleep(FORGETS_S)
                opened["Chromium, warm"] = click(driver, address, process)
    return opened


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--side", dest="sides", action="append", choices=SIDES, help="may be repeated; else all")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    browser = shutil.which("chromedriver") is not None
    with tempfile.TemporaryDirectory() as scratch:
        home = locate_home(Path(scratch) / "home")
        make_finished_study(home, trials=arguments.trials)
        print(f"\n{arguments.trials} trials\n\n| server | opened | s | server CPU, s | browser CPU, s | kB | load |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for _ in range(arguments.rounds):
            for side in arguments.sides or SIDES:
                load = os.getloadavg()[0]
                for how, one in measure(side, home, browser=browser).items():
                    cells = [side, how, f"{one.seconds:.2f}", f"{one.server_cpu_s:.2f}"]
                    cells += [f"{one.browser_cpu_s:.1f}" if one.browser_cpu_s else "", f"{one.n_bytes / 1e3:,.0f}"]
                    print(f"| {' | '.join(cells)} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main()
