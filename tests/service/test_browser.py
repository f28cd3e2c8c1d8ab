"""The service in real Chromium: a study is submitted in the form, its curves move, and a killed service comes back."""

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from sklearn.datasets import load_digits

from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.overview import summarize_studies

from ..browser import BROWSER, Browser
from ..ports import free_port
from ..processes import wait_until
from .serving import Server, serving_caviar

pytestmark = BROWSER
QUICK = (Path(__file__).parents[2] / "studies" / "digits_quick.toml").read_text("utf-8")
LONG = """
name = "long"
data = { dataset = "digits" }
objective = { epochs = 100000 }
search = { trials = 1, pruner = "none" }
space = { learning_rate = { low = 0.01, high = 0.02 }, momentum = 0.9, depth = 1, units = 16, batch_norm = "none" }
"""
_SHOW_S = 60.0


class Page:
    """A page in Chromium, asked by JavaScript and by the elements' ids."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, path: str) -> None:
        self.driver.get(self.address + path)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def text(self, selector: str = "body") -> str:
        return str(self.run("document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        def is_clicked() -> bool:
            try:
                self.driver.find_element("css selector", selector).click()
            except StaleElementReferenceException:  # the page's script has just taken over a newer one
                return False
            return True

        wait_until(is_clicked, timeout_s=30, poll_s=0.1)

    def type(self, selector: str, text: str) -> None:
        element = self.driver.find_element("css selector", selector)
        element.clear()
        element.send_keys(text)

    def wait_for(self, script: str, *arguments: Any) -> None:
        wait_until(lambda: self.run(f"Boolean({script})", *arguments), timeout_s=_SHOW_S, poll_s=0.1)

    def wait_for_charts(self, selector: str) -> None:
        """Wait for what a page draws when it has nothing else to do; on a busy machine, MLflow's forgets some."""
        looks = itertools.count(1)

        def are_drawn() -> bool:
            time.sleep(0.5)
            if next(looks) % 12 == 0:
                self.driver.refresh()
            return bool(self.run("document.querySelectorAll(arguments[0]).length > 0", selector))

        wait_until(are_drawn, timeout_s=_SHOW_S, poll_s=0.1)

    def wait_for_text(self, text: str, selector: str = "body") -> None:
        wait_until(lambda: text in self.text(selector), timeout_s=_SHOW_S, poll_s=0.1)

    def complaints(self) -> list[str]:
        """Return what the browser has complained about since it was last asked: scripts, styles, missing files."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def driver(browser: Browser) -> Any:
    return browser.driver


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tracking_template: Path) -> Path:
    home = tmp_path_factory.mktemp("shared")
    shutil.copy(tracking_template, home)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """One service for the file: each loads both dashboards."""
    with serving_caviar(home) as server:
        yield server


def n_done(home: Path) -> int:
    storage = open_storage(locate_home(home).storage, owner=new_owner())
    (study,) = summarize_studies(storage)
    storage.engine.dispose()
    return study.counts["complete"] + study.counts["pruned"]


def running_supervisors(server: Server) -> list[dict[str, Any]]:
    with server.client() as client:
        return [run for run in client.get("/v1/runs").json() if run["ended_at"] is None]


def test_a_study_is_submitted_watched_and_found_in_both_dashboards_and_its_champion_predicts(
    driver: Any, server: Server, home: Path, tmp_path: Path
) -> None:
    page = Page(driver, server.address)
    page.open("/")
    page.wait_for_text("There are no studies yet")
    page.click("nav a[href='/new']")

    page.type("#text", QUICK.replace("trials = 6", "trials = -6"))
    page.click("#check")
    page.wait_for_text("search.trials", "#said")
    page.run("document.getElementById('text').value = arguments[0]", QUICK)
    page.click("#check")
    page.wait_for_text("digits_quick is valid: 6 trials of at most 3 epochs on digits", "#said")
    page.complaints()  # the wrong file was answered with 400, which the browser notes

    page.click("#study-form button[type=submit]")
    page.wait_for("location.pathname === '/studies/digits_quick'")
    page.wait_for("Number(document.getElementById('curves')?.dataset.points) > 0")
    page.wait_for("document.querySelectorAll('#curves .scatterlayer .trace path').length > 0")
    page.wait_for_text("6 of 6", "#facts")
    page.wait_for_text("Best trials")
    page.wait_for_text("finished", "#runs")
    assert page.complaints() == []
    assert n_done(home) == 6

    page.click("button[data-action=champion]")
    page.wait_for_text("won the race", "#champion")
    page.open("/studies/digits_quick")
    Image.fromarray(load_digits().images[0].astype(np.uint8)).save(tmp_path / "zero.png")
    driver.find_element("css selector", "#predict-file").send_keys(str(tmp_path / "zero.png"))
    page.click("#predict-form button[type=submit]")
    page.wait_for_text("1 predicted: 0", "#predict-said")

    page.wait_for("document.querySelector('#links a[href*=\"experiments\"]')")
    page.click("#links a[href*='experiments']")
    page.wait_for_text("digits_quick")
    page.wait_for_charts(".js-plotly-plot")
    assert page.run("location.pathname") == "/mlflow/"
    page.click("#caviar-fellow")
    page.wait_for("location.pathname === '/studies/digits_quick'")
    page.wait_for("document.querySelector('#links a[href*=\"dashboard\"]')")
    page.click("#links a[href*='dashboard']")
    page.wait_for_text("digits_quick")
    page.wait_for_charts("#graph-hyperparameter-importances .point")
    page.click("#caviar-fellow")
    page.wait_for("location.pathname === '/studies/digits_quick'")
    assert page.run("location.origin") == server.address


def test_a_page_fits_a_telephone_and_is_reached_by_keyboard(driver: Any, server: Server) -> None:
    view = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
    try:
        page = Page(driver, server.address)
        for path in ("/", "/new"):
            page.open(path)
            assert page.run("document.documentElement.scrollWidth") <= 390
            page.driver.switch_to.active_element.send_keys("\ue004")  # Tab
            assert page.run("document.activeElement.className") == "skip"
            small = "[...document.querySelectorAll('main button')].filter((one) => one.offsetHeight < 44).length"
            assert page.run(small) == 0
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_pages_keep_their_contrast(driver: Any, server: Server) -> None:
    page = Page(driver, server.address)
    shades = {}
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        page.open("/")
        shades[scheme] = [
            brightness(page.run(f"getComputedStyle(document.body).{part}")) for part in ("color", "backgroundColor")
        ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shades["light"][0] + 0.5 < shades["light"][1]
    assert shades["dark"][1] + 0.5 < shades["dark"][0]


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]) / (3 * 255)


def test_a_trial_is_steered_in_the_page_and_a_killed_service_finds_its_run_again(
    driver: Any, prepared_home: Path
) -> None:
    port = free_port()
    n_points = "Number(document.getElementById('curves')?.dataset.points)"
    with serving_caviar(prepared_home, port=port) as server:
        page = Page(driver, server.address)
        page.complaints()  # MLflow's pages ask for what the service leaves out
        page.open("/new")
        page.run("document.getElementById('text').value = arguments[0]", LONG)
        page.click("#study-form button[type=submit]")
        page.wait_for(f"{n_points} > 5")
        page.wait_for(f"{n_points} > arguments[0]", page.run(n_points))
        page.wait_for("document.getElementById('control-trial').value === '0'")
        page.type("#control-value", "0.0001")
        page.click("#control-form button[type=submit]")
        page.wait_for_text("Trial 0: done, before epoch", "#control-said")
        page.wait_for("Number(document.getElementById('curves').dataset.changes) === 1")
        page.wait_for_text("→ 0.0001 (browser@127.0.0.1)", "#changes")
        assert page.complaints() == []
        (run,) = running_supervisors(server)
        server.kill()
        page.wait_for("!document.getElementById('offline').hidden")
    before = page.run(n_points)
    assert psutil.pid_exists(run["pid"])
    with serving_caviar(prepared_home, port=port) as server:
        page.wait_for("document.getElementById('offline').hidden")  # the page that was open goes on
        page.wait_for_text("running", "#facts")
        assert running_supervisors(server) == [run]
        page.wait_for(f"{n_points} > arguments[0]", before)
        with server.client(**{"X-Caviar": "1", "Content-Type": "application/toml"}) as client:
            refused = client.post("/v1/studies", content=LONG)
        assert refused.status_code == 409
        page.click("button[data-action=stop]")
        page.wait_for_text("ends after the current epoch", "#action-said")
        wait_until(lambda: running_supervisors(server) == [], timeout_s=30)
        page.wait_for_text("stopped", "#runs")
