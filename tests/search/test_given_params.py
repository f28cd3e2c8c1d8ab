"""What a user enqueues is drawn as it was meant, or refused by name."""

from typing import Any

import optuna
import pytest

from caviar.errors import SpaceError
from caviar.search.given_params import take_given
from caviar.space import SearchSpace, parse_space

SPACE = parse_space(
    {
        "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
        "momentum": {"low": 0.5, "high": 0.999, "scale": "log-complement"},
        "batch_norm": {"choices": ["none", "before_activation"]},
        "depth": 2,
    }
)


def draw(given: dict[str, Any], space: SearchSpace = SPACE) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(given)
    trial = study.ask()
    take_given(trial, space)
    return space.suggest(trial)


@pytest.mark.parametrize("given", [{"momentum": 0.95}, {"one_minus_momentum": 0.05}, {"momentum": 0.95, "depth": 2}])
def test_either_name_of_a_log_complement_parameter_is_taken(given: dict[str, Any]) -> None:
    assert draw(given)["momentum"] == 0.95


@pytest.mark.parametrize("end", [0.5, 0.999])
def test_the_ends_of_a_range_lie_inside_it(end: float) -> None:
    assert draw({"momentum": end})["momentum"] == end


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"momentun": 0.9}, "draws no 'momentun'. Did you mean 'momentum'"),
        ({"epochs": 3}, "draws no 'epochs'"),
        ({"depth": 3}, "depth is fixed to 2 in this space, but was given as 3"),
        ({"momentum": 0.9, "one_minus_momentum": 0.1}, "one_minus_momentum was given twice"),
        ({"momentum": "high"}, "momentum must be a number, but was given as 'high'"),
        ({"momentum": 0.2}, "one_minus_momentum must be from 0.001 to 0.5 in this space, but was given as 0.8"),
        ({"momentum": float("nan")}, "one_minus_momentum must be from"),
        ({"learning_rate": True}, "learning_rate must be from"),
        ({"batch_norm": "after"}, "batch_norm must be one of 'none', 'before_activation'"),
    ],
)
def test_what_the_space_does_not_draw_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        draw(given)


def test_layers_with_widths_of_their_own_are_given_one_by_one() -> None:
    space = parse_space({"depth": {"low": 1, "high": 2}, "units": {"low": 4, "high": 8}, "units_per_layer": True})
    assert draw({"depth": 2, "units_1": 5, "units_2": 6}, space)["units"] == (5, 6)
    with pytest.raises(SpaceError, match="Allowed: depth, units_1, units_2"):
        draw({"units": 5}, space)
