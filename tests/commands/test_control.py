"""One trial under your eyes: a real worker in a process of its own, steered from here, then replayed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.processes import running_here

from caviar import LiveTrial
from caviar.cli import main
from caviar.commands.control import control_trial, parse_request
from caviar.commands.panda import begin_trial, view_trial
from caviar.commands.replay import replay_trial
from caviar.commands.status import study_status
from caviar.errors import CaviarError, SpaceError, SpecError
from caviar.interventions import Request
from caviar.storage.home import Home

_DEADLINE_S = 120.0


def write_study(path: Path, *, trainer: str, epochs: int = 100_000, trials: int = 1) -> Path:
    path.write_text(
        f"""
name = "steered"
[data]
dataset = "tests.toy_data:blobs"
[objective]
epochs = {epochs}
[search]
trials = {trials}
sampler = "random"
pruner = "none"
trainer = "{trainer}"
lease_s = 20
[space]
learning_rate = {{ low = 1e-3, high = 0.1, scale = "log" }}
units = 8
depth = 1
""",
        encoding="utf-8",
    )
    return path


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {_DEADLINE_S:.0f} s"
        time.sleep(0.2)
    return found


def call(*arguments: str, home: Home) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home.path)])


class Steered:
    """A run whose trial 0 is steered from here."""

    def __init__(self, home: Home, tmp_path: Path, *, trainer: str) -> None:
        self.home = home
        file = write_study(tmp_path / "steered.toml", trainer=trainer)
        self.command = ("run", file, "--home", home.path)
        self.live = LiveTrial("steered", 0, home=home.path)

    def epochs(self) -> int:
        try:
            return view_trial(self.home, "steered", 0).epochs
        except CaviarError:  # the study is not there yet
            return 0

    def state(self, number: int) -> str:
        return view_trial(self.home, "steered", number).state

    def replayed_alike(self, number: int) -> bool:
        replay = replay_trial(self.home, "steered", number)
        assert len(replay.replayed["val_loss"]) == len(replay.recorded["val_loss"])
        return replay.difference <= 1e-6


@pytest.mark.slow
def test_a_trial_in_a_fleet_is_steered_and_forked_and_both_are_replayed_to_the_same_curve(
    home: Home, tmp_path: Path
) -> None:
    steered = Steered(home, tmp_path, trainer="fleet")
    with running_here(*steered.command) as run:
        wait_for(lambda: steered.epochs() > 0, "the first epoch")
        assert steered.live.set(learning_rate=0.0007).done
        begun = steered.epochs()
        wait_for(lambda: steered.epochs() > begun, "more epochs")
        fork = steered.live.fork(learning_rate=0.002)
        assert steered.live.stop().done
        wait_for(lambda: steered.state(fork.number) == "RUNNING", "the fork")
        assert fork.stop().done
        assert run.finish().exit_code == 0
    assert steered.replayed_alike(0)
    assert steered.replayed_alike(fork.number)


@pytest.mark.slow
def test_a_trial_is_steered_paused_sent_back_and_resumed_by_another_worker(home: Home, tmp_path: Path) -> None:
    steered = Steered(home, tmp_path, trainer="solo")
    live = steered.live
    with running_here(*steered.command) as run:
        wait_for(lambda: steered.epochs() > 0, "the first epoch")
        lowered = live.set(learning_rate=0.0007)
        assert lowered.done
        assert lowered.epoch is not None
        said = call("control", "steered", "0", "--set", "momentum=0.5", "--json", home=home)
        assert (said.exit_code, json.loads(said.stdout)["done"]) == (0, True)
        said = call("control", "steered", "0", "--set", "momentum=1.5", home=home)
        assert (said.exit_code, "momentum must be at least 0" in said.output) == (2, True)
        assert live.pause().done
        wait_for(lambda: steered.state(0) == "PAUSED", "the pause")
        # While it waits: a trial of this size trains hundreds of epochs in the second until a request is read.
        assert not live.back(steered.epochs() - 3).done
        assert study_status(home, "steered")["trials"]["paused"] == 1
        assert run.finish().exit_code == 0  # the paused trial does not keep it
    assert live.resume().done
    with running_here(*steered.command) as again:
        wait_for(lambda: steered.state(0) == "RUNNING", "the resumption")
        wait_for(lambda: live.set(learning_rate=0.0003).done, "a change after the pause")
        assert live.stop().done
        assert again.finish().exit_code == 0
    view = view_trial(home, "steered", 0)
    assert view.live["learning_rate"] == 0.0003
    assert [text.split(":")[1].split()[0] for text in view.interventions] == [
        *("learning_rate", "momentum", "paused", "back", "learning_rate", "stopped"),
    ]
    said = call("replay", "steered", "0", home=home)
    assert (said.exit_code, "the same curve" in said.output) == (0, True)


def test_wrong_requests_name_what_is_allowed() -> None:
    for options, message in (
        ({}, "but got nothing"),
        ({"values": ["learning_rate=0.1"], "action": "stop"}, "one thing at a time, but got set and stop"),
        ({"values": ["learning_rate"]}, "--set takes NAME=NUMBER"),
        ({"values": ["learning_rate=fast"]}, "--set takes NAME=NUMBER"),
        ({"values": ["learning_rat=0.1"]}, "Did you mean 'learning_rate'"),
        ({"values": ["units=8"]}, "cannot change while a network trains"),
        ({"epochs": 0}, "from 1 to"),
        ({"back": -1}, "from 0 to"),
        ({"action": "stop", "epoch": 3}, "does not go with"),
    ):
        with pytest.raises(SpecError, match=message):
            parse_request(**options)
    for text in ("learning_rate=0", "learning_rate=nan", "dropout=1", "l2=-1"):
        with pytest.raises(SpaceError):
            parse_request(values=[text])


def test_a_trial_that_does_not_exist_or_has_ended_is_refused(home: Home, tmp_path: Path) -> None:
    file = write_study(tmp_path / "steered.toml", trainer="solo", epochs=2)
    assert call("run", str(file), home=home).exit_code == 0
    with pytest.raises(SpecError, match="has no trial 7: its trials are 0 to 0"):
        control_trial(home, "steered", 7, Request(action="stop"))
    with pytest.raises(SpecError, match=r"has ended \(COMPLETE\), so it cannot be changed\. To go on from it"):
        control_trial(home, "steered", 0, Request(action="set", values={"learning_rate": 0.1}))
    with pytest.raises(SpecError, match="has done 2 epochs, so it cannot be forked after 5"):
        control_trial(home, "steered", 0, Request(action="fork", epoch=5))
    forked = control_trial(home, "steered", 0, Request(action="fork", epoch=1, values={"learning_rate": 0.05}))
    begun = begin_trial(home, "steered", settings=["learning_rate=0.02"])
    assert (forked.trial, begun) == (1, 2)
    with pytest.raises(SpaceError, match=r"learning_rate must be from 0\.001 to 0\.1"):
        begin_trial(home, "steered", settings=["learning_rate=7"])
    assert call("worker", "steered", "--trial", "2", home=home).exit_code == 0
    assert [view_trial(home, "steered", n).state for n in range(3)] == ["COMPLETE", "WAITING", "COMPLETE"]
    assert call("worker", "steered", home=home).exit_code == 0
    assert replay_trial(home, "steered", 1).agrees
    recorded = [replay_trial(home, "steered", n).recorded["val_loss"] for n in range(2)]
    assert recorded[0][0] == recorded[1][0]
    assert recorded[0][1] != recorded[1][1]
    rows = json.loads(call("trials", "steered", "--json", home=home).stdout)
    assert "forked from trial 0" in rows[1]["interventions"]
