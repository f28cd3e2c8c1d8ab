"""How long a study takes by `caviar check`: what a trial takes, and not what the process takes once."""

from typing import Any

import pytest

from caviar.commands import check
from caviar.spec import parse_spec

STARTING_S, TRACING_S, EPOCH_S = 300.0, 10.0, 2.0


class Clock:
    """A machine on which the first network of a process takes five minutes more than the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.n_networks = 0

    def make_trainer(self, _hyperparameters: object, *, seed: int) -> "Trainer":
        self.n_networks += 1
        self.now += STARTING_S * (self.n_networks == 1)
        return Trainer(self)


class Trainer:
    output = "logits"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_traced = False

    def run_epoch(self) -> None:
        self._clock.now += EPOCH_S + TRACING_S * (not self._is_traced)
        self._is_traced = True

    def lane_model(self, _lane: int) -> Any:
        import keras

        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("trainer", "trial_s"), [("auto", 10 * EPOCH_S), ("solo", 10 * EPOCH_S + TRACING_S)])
def test_tracing_counts_only_where_every_trial_is_traced(
    monkeypatch: pytest.MonkeyPatch, trainer: str, trial_s: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(check, "objective_of", lambda *_: clock)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    spec = parse_spec(
        {
            "name": "toy",
            "data": {"dataset": "digits"},
            "objective": {"epochs": 10},
            "search": {"trials": 120, "trainer": trainer},
        }
    )
    result = check.check_spec(spec)
    assert result.search_h * 3600 == pytest.approx(120 * trial_s)
    assert f"One trial takes about {trial_s:.1f} s" in result.reason
    assert (result.first_epoch_s, result.epoch_s) == (STARTING_S + TRACING_S + EPOCH_S, EPOCH_S)
