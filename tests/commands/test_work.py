"""How many threads a worker gets."""

from typing import Any

import pytest

from caviar.commands.sizing import threads_for
from caviar.spec import parse_spec


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))


def threads(n_workers: int, *, units: Any = None, **more: Any) -> int:
    space = {"learning_rate": {"low": 0.01, "high": 0.1, "scale": "log"}, "depth": 2}
    if units is not None:
        space["units"] = units
    table = {"name": "toy", "data": {"dataset": "digits"}, "space": space, **more}
    return threads_for(parse_spec(table), n_workers=n_workers)


@pytest.mark.parametrize("units", [None, 64, {"low": 16, "high": 256, "scale": "log"}, {"choices": [32, 512]}])
def test_a_fleet_of_narrow_networks_takes_one_thread(units: Any) -> None:
    assert threads(1, units=units) == 1


@pytest.mark.parametrize("units", [256, [256, 512], {"low": 128, "high": 512, "scale": "log"}])
def test_workers_that_train_wide_networks_share_the_cores(units: Any) -> None:
    assert threads(1, units=units) == 8
    assert threads(3, units=units) == 2
    assert threads(20, units=units) == 1


def test_workers_that_train_one_network_after_the_other_share_the_cores() -> None:
    assert threads(2, search={"trainer": "solo"}) == 4
    assert threads(4, objective={"network": "tests.toy_networks:build"}) == 2
