"""How long optuna-dashboard takes to open a large study: its real server, asked as its page asks, and in a browser.

Run from the project's root: ``python -m benchmarks.dashboard`` (two minutes on 2 cores). The study is synthetic: so
many trials with six parameters, a report an epoch, and all curves, as caviar's workers store them.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
import time
import urllib.request
from pathlib import Path

import optuna
from optuna.trial import TrialState, create_trial
from tests.browser import free_port, serving

from caviar.attributes import BEST_EPOCH, BEST_VALUE, CURVES, TRAIN_SECONDS
from caviar.insight.trial_notes import show_trials
from caviar.space import DEFAULT_SPACE_TABLE, parse_space
from caviar.storage.database import new_owner, open_storage

_DRAWN = 50  # trials that are made one by one; the others are copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="servers that open the study, each anew")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{Path(name) / 'optuna.db'}"
        make_study(url, Path(name), arguments)
        print(f"{arguments.trials} trials of {arguments.epochs} epochs, load {os.getloadavg()[0]:.1f}")
        for _ in range(arguments.rounds):
            port = free_port()
            command = ["optuna-dashboard", "--host", "127.0.0.1", "--port", str(port), url]
            with serving(command, ready="Booting worker", environment={}, cwd=Path(name)):
                print(", ".join(f"{what} {figure}" for what, figure in ask(f"http://127.0.0.1:{port}").items()))


def make_study(url: str, directory: Path, arguments: argparse.Namespace) -> None:
    storage = open_storage(url, owner=new_owner(), create=True)
    study = optuna.create_study(storage=storage, study_name="large", direction="maximize")
    space = parse_space(DEFAULT_SPACE_TABLE)
    distributions = space.distributions()
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    draw = random.Random(0)
    for number in range(_DRAWN):
        params = drawn.ask(distributions).params
        n_epochs = arguments.epochs if number % 3 == 0 else draw.randint(1, arguments.epochs)
        best = draw.random()
        curves = {
            key: [best * (1 - 0.8 ** (epoch + 1)) + draw.random() / 1e3 for epoch in range(n_epochs)]
            for key in ("accuracy", "loss", "val_accuracy", "val_loss")
        }
        attributes = {CURVES: curves, BEST_VALUE: best, BEST_EPOCH: n_epochs - 1, TRAIN_SECONDS: 1.25}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if number % 3 == 0 else TrialState.PRUNED,
                value=best,
                params=params,
                distributions=distributions,
                user_attrs=attributes,
                intermediate_values=dict(enumerate(curves["val_accuracy"])),
            )
        )
    repeat_trials(directory / "optuna.db", n_times=arguments.trials // _DRAWN)
    show_trials(
        study, 0, space=space, metric="val_accuracy", network=None, champion=None, artifacts=directory / "artifacts"
    )


def repeat_trials(path: Path, *, n_times: int) -> None:
    """Copy the trials of a study's database so many times less one, since Optuna takes 30 ms to add one."""
    tables = ("trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for place in range(1, n_times):
            further = place * _DRAWN
            for table in ("trials", *tables):
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                taken = {"trial_id": f"trial_id + {further}", "number": f"number + {further}"}
                own = columns[0] if table != "trials" else ""  # each row's own id, given anew
                names = [name for name in columns if name != own]
                values = ", ".join(taken.get(name, name) for name in names)
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE trial_id <= {_DRAWN}"
                )


def ask(address: str) -> dict[str, str]:
    """Ask a server for what its page of a study needs before it shows anything."""
    figures = {}
    for what, path in (("studies", "studies"), ("the study", "studies/1?after=0"), ("again", "studies/1?after=4990")):
        began_s = time.perf_counter()
        with urllib.request.urlopen(f"{address}/api/{path}", timeout=300) as answer:
            body = answer.read()
        json.loads(body)
        figures[what] = f"{time.perf_counter() - began_s:.2f} s ({len(body) / 1e6:.1f} MB)"
    figures["page"] = f"{open_page(address):.2f} s"
    return figures


def open_page(address: str) -> float:
    """Return the seconds until the browser's page of the study shows its history."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(option)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get("about:blank")
        began_s = time.perf_counter()
        driver.get(f"{address}/dashboard/studies/1")
        WebDriverWait(driver, 120, poll_frequency=0.05).until(
            lambda browser: browser.find_elements(By.CSS_SELECTOR, "#history .main-svg, .js-plotly-plot .main-svg")
        )
        return time.perf_counter() - began_s
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
