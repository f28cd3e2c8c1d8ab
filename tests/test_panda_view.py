"""The live view of `caviar panda`, driven by its keys in a terminal of 80 by 24 characters."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, Static

from caviar.attributes import CURVES, REQUEST
from caviar.cli.panda_view import PandaApp
from caviar.commands.panda import TrialView, view_trial
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.opening import open_existing
from caviar.storage.studies import create_study

CURVE = [0.5, 0.7, 0.9]


@pytest.fixture
def home(prepared_home: Path) -> Home:
    """A home whose study has one waiting trial, which has reported three epochs."""
    home = locate_home(prepared_home)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    space = {"learning_rate": {"low": 1e-3, "high": 0.5, "scale": "log"}}
    table = {"name": "toy", "data": {"dataset": "digits"}, "objective": {"epochs": 8}, "space": space}
    study = create_study(storage, parse_spec(table), attributes={})
    trial = study.ask()
    trial.suggest_float("learning_rate", 1e-3, 0.5, log=True)
    for step, value in enumerate(CURVE):
        trial.report(value, step)
    trial.set_user_attr(CURVES, {"val_accuracy": CURVE, "val_loss": [1.5, 0.9, 0.4]})
    return home


def drive(home: Home, act: Callable[[PandaApp, Pilot[None]], Awaitable[None]]) -> None:
    """Open the view, wait until it shows the trial, and act."""

    async def run() -> None:
        app = PandaApp(home, "toy", 0, poll_s=0.3, wait_s=0)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.shown is not None)
            await act(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return
        await pilot.pause(0.05)
    pytest.fail("The view never came to that.")


def text(app: PandaApp, place: str) -> str:
    return str(app.query_one(f"#{place}", Static).render())


def requests(home: Home) -> list[dict[str, object]]:
    _, study = open_existing(home, "toy")
    (trial,) = study.get_trials()
    return [value for key, value in sorted(trial.system_attrs.items()) if key.startswith(REQUEST)]


def test_it_shows_the_trial_within_80_by_24_characters(home: Home) -> None:
    async def look(app: PandaApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "0.9000" in text(app, "metric-label"))
        assert "toy, trial 0" in text(app, "head")
        assert "epoch 3 of 8" in text(app, "head")
        assert "val_loss: 0.4000 (0.4000 to 1.5000)" in text(app, "loss-label")
        assert "learning_rate" in text(app, "live")
        places = [widget.region for widget in app.screen.walk_children(Static)]
        assert all(place.y >= 0 and place.bottom <= 24 and place.right <= 80 for place in places)

    drive(home, look)


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (["s", *"momentum=0.5", "enter"], {"action": "set", "values": {"momentum": 0.5}}),
        (["e", *"12", "enter"], {"action": "epochs", "epochs": 12}),
        (["b", *"2", "enter"], {"action": "back", "epoch": 2}),
        (["x"], {"action": "stop"}),
        (["p"], {"action": "pause"}),
    ],
)
def test_a_key_asks_the_trials_worker(home: Home, keys: list[str], asked: dict[str, object]) -> None:
    async def press(app: PandaApp, pilot: Pilot[None]) -> None:
        await pilot.press(*(key.replace("=", "equals_sign").replace(".", "full_stop") for key in keys))
        await until(pilot, lambda: bool(requests(home)))
        assert not app.query_one(Input).has_class("asked")

    drive(home, press)
    (request,) = requests(home)
    assert {key: request[key] for key in asked} == asked


def test_the_arrows_halve_and_double_the_learning_rate(home: Home) -> None:
    async def press(app: PandaApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        await until(pilot, lambda: bool(requests(home)))
        assert app.shown is not None
        assert requests(home)[0]["values"] == {"learning_rate": app.shown.live["learning_rate"] / 2}

    drive(home, press)


def test_wrong_values_are_said_and_not_asked(home: Home) -> None:
    async def press(app: PandaApp, pilot: Pilot[None]) -> None:
        await pilot.press("e", "a", "enter")
        await until(pilot, lambda: "no whole number" in text(app, "said"))
        await pilot.press("s", *"units", "enter")
        await until(pilot, lambda: "NAME=NUMBER" in text(app, "said"))
        await pilot.press("s", "escape")
        assert not app.query_one(Input).has_class("asked")

    drive(home, press)
    assert requests(home) == []


def test_a_look_that_comes_back_while_the_view_ends_is_dropped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, ends = threading.Event(), threading.Event()

    class Slow(Static):
        async def on_unmount(self) -> None:
            ends.set()
            await asyncio.sleep(0.3)

    class EndsSlowly(PandaApp):
        def compose(self) -> ComposeResult:
            yield from super().compose()
            yield Slow()

    app = EndsSlowly(home, "toy", 0, poll_s=0.1, wait_s=0)

    def view_late(*arguments: Any) -> TrialView:
        view = view_trial(*arguments)
        if app.shown is not None:
            looked.set()
            ends.wait(10)
        return view

    monkeypatch.setattr("caviar.cli.panda_view.view_trial", view_late)

    async def run() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, looked.is_set)

    asyncio.run(run())
    assert ends.is_set()
