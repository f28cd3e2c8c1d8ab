import math
from collections.abc import Mapping

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caviar.config import NetworkConfig, TrainingConfig
from caviar.errors import SpaceError
from caviar.parameters import TIERS, FloatParameter, IntParameter, complement
from caviar.space import (
    DEFAULT_SPACE_TABLE,
    HYPERPARAMETERS,
    make_configs,
    parse_space,
    space_table,
)


def draw(table: Mapping[str, object], n_trials: int, *, seed: int = 0) -> list[optuna.trial.FrozenTrial]:
    space = parse_space(table)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(n_trials):
        space.suggest(study.ask())
    return study.get_trials(deepcopy=False)


def test_log_scale_draws_exponent_uniformly() -> None:
    trials = draw({"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}}, 500)
    exponents = [math.log10(trial.params["learning_rate"]) for trial in trials]
    assert stats.kstest(exponents, stats.uniform(-4, 4).cdf).pvalue > 0.01


def test_log_complement_scale_draws_exponent_of_the_complement_uniformly() -> None:
    table = {"momentum": {"low": 0.9, "high": 0.999, "scale": "log-complement"}}
    space = parse_space(table)
    momenta = [space.hyperparameters(trial.params)["momentum"] for trial in draw(table, 500)]
    exponents = np.log10(1 - np.array(momenta))
    assert stats.kstest(exponents, stats.uniform(-3, 2).cdf).pvalue > 0.01
    assert stats.kstest(momenta, stats.uniform(0.9, 0.099).cdf).pvalue < 1e-6  # the uniform scale would be another


def test_momentum_is_stored_as_its_complement_and_shown_as_momentum() -> None:
    space = parse_space({"momentum": {"low": 0.5, "high": 0.999, "scale": "log-complement"}})
    assert space.distributions() == {"one_minus_momentum": optuna.distributions.FloatDistribution(0.001, 0.5, log=True)}
    trial = optuna.trial.FixedTrial({"one_minus_momentum": 0.01})
    assert space.suggest(trial) == {"momentum": 0.99}
    assert space.hyperparameters({"one_minus_momentum": 0.01}) == {"momentum": 0.99}


@given(st.floats(0, 0.999999))
def test_complement_is_its_own_inverse_to_a_rounding(value: float) -> None:
    assert complement(complement(value)) == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_widths_of_a_layer_each_are_drawn_for_the_layers_there_are() -> None:
    table = {"depth": {"low": 1, "high": 3}, "units": {"low": 4, "high": 9}, "units_per_layer": True}
    space = parse_space(table)
    for trial in draw(table, 20):
        hyperparameters = space.hyperparameters(trial.params)
        assert len(hyperparameters["units"]) == hyperparameters["depth"]
        assert {name for name in trial.params if name.startswith("units_")} == {
            f"units_{layer}" for layer in range(1, hyperparameters["depth"] + 1)
        }
        network, _ = make_configs(hyperparameters, epochs=1)
        assert network.widths == hyperparameters["units"]


def test_a_hyperparameter_that_does_not_matter_is_not_drawn() -> None:
    table = {"decay": {"choices": ["none", "exponential"]}, "decay_rate": {"low": 0.01, "high": 0.2}}
    trials = draw(table, 20)
    assert {trial.params["decay"] for trial in trials} == {"none", "exponential"}
    assert all(("decay_rate" in trial.params) == (trial.params["decay"] == "exponential") for trial in trials)


def test_the_default_space_is_the_six_that_the_course_ranks() -> None:
    space = parse_space(DEFAULT_SPACE_TABLE)
    tiers = {parameter.name: parameter.tier for parameter in space.parameters}
    assert tiers == {"learning_rate": 1, "momentum": 2, "batch_size": 2, "depth": 3, "units": 2, "batch_norm": 4}
    assert set(TIERS) <= set(HYPERPARAMETERS)


def test_a_space_survives_being_written_and_read() -> None:
    table = {
        "learning_rate": {"low": 1e-4, "high": 1, "scale": "log"},
        "depth": {"low": 1, "high": 3},
        "units": {"low": 4, "high": 9, "scale": "log"},
        "units_per_layer": True,
        "activation": {"choices": ["relu", "tanh"]},
        "dropout": 0.1,
    }
    space = parse_space(table)
    assert parse_space(space_table(space)) == space


def test_fixed_widths_fix_the_depth() -> None:
    space = parse_space({"units": [64, 32], "learning_rate": {"low": 0.1, "high": 1.0}})
    hyperparameters = space.suggest(optuna.trial.FixedTrial({"learning_rate": 0.5}))
    assert hyperparameters == {"units": (64, 32), "depth": 2, "learning_rate": 0.5}


def test_own_names_are_kept_for_the_users_own_network() -> None:
    space = parse_space({"filters": {"low": 4, "high": 16, "scale": "log"}, "kernel": 3}, own_names=True)
    assert space.suggest(optuna.trial.FixedTrial({"filters": 8})) == {"filters": 8, "kernel": 3}
    make_configs({"filters": 8, "kernel": 3}, epochs=1)


RATE = {"low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"learning_rat": RATE}, r"'learning_rat'. Did you mean 'learning_rate'\?"),
        ({"learning_rate": {"low": 1.0, "high": 0.1}}, r"low below high.*low = 1.0, high = 0.1"),
        ({"learning_rate": {"low": 0.1, "high": 0.1}}, r"low below high"),
        ({"dropout": {"low": 0.0, "high": 0.5, "scale": "log"}}, r"low must be above 0, but got low = 0.0"),
        ({"momentum": {"low": 0.5, "high": 1.0, "scale": "log-complement"}}, r"at least 0.0 and below 1.0.*got 1.0"),
        ({"learning_rate": {"low": 0.1, "high": 1.0, "scale": "logg"}}, r"Did you mean 'log'\?"),
        ({"learning_rate": {"low": 0.1, "hihg": 1.0}}, r"no key 'hihg'. Did you mean 'high'\?"),
        ({"learning_rate": {"low": 0.1}}, r"high is missing"),
        ({"learning_rate": {"low": "0.1", "high": 1.0}}, r"must be a number, but got '0.1'"),
        ({"depth": {"low": 1.5, "high": 3}}, r"whole number, but got 1.5"),
        ({"depth": {"low": 0, "high": 3}}, r"at least 1, but got 0"),
        ({"batch_size": {"choices": []}}, r"at least one choice"),
        ({"batch_size": {"choices": [32, 32]}}, r"32 twice"),
        ({"batch_size": {"choices": 32}}, r"must be a list, but got 32"),
        ({"batch_norm": {"choices": ["befor_activation"]}}, r"Did you mean 'before_activation'\?"),
        ({"batch_norm": {"low": 1, "high": 2}}, r"give it choices"),
        ({"decay_rate": {"low": 0.1, "high": 0.2}}, r"matters only if decay is one of"),
        ({"decay": "exponential", "decay_rate": {"low": 0.1, "high": 2.0}}, r"decay_rate must be below 1"),
        ({"learning_rate": RATE, "units_per_layer": True}, r"units has no range"),
        ({"learning_rate": RATE, "units_per_layer": "yes"}, r"true or false, but got 'yes'"),
        ({"learning_rate": RATE, "units": [8, 8], "depth": {"low": 1, "high": 2}}, r"Fix depth to 2"),
        ({"learning_rate": 0.1}, r"draws nothing"),
        ({"learning_rate": RATE, "dropout": 1.0}, r"dropout must be at least 0.0 and below 1.0, but got 1.0"),
        ({"learning_rate": RATE, "dropout": True}, r"must be a number, but got True"),
    ],
)
def test_bad_spaces_are_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(table)


def test_parameters_check_themselves() -> None:
    with pytest.raises(SpaceError, match=r"range must lie in \[0, 1\)"):
        FloatParameter(name="momentum", low=0.5, high=1.0, scale="log-complement")
    with pytest.raises(SpaceError, match="low must be above 0"):
        IntParameter(name="units", low=0, high=8, scale="log")


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetworkConfig(depth=0),
        lambda: NetworkConfig(depth=2, units=(8,)),
        lambda: NetworkConfig(dropout=1.0),
        lambda: NetworkConfig(l2=-1.0),
        lambda: NetworkConfig(activation="rleu"),  # type: ignore[arg-type]  # a typo is what is tested
        lambda: TrainingConfig(learning_rate=0.0),
        lambda: TrainingConfig(learning_rate=float("nan")),
        lambda: TrainingConfig(momentum=1.0),
        lambda: TrainingConfig(decay="exponential", decay_rate=1.0),
        lambda: TrainingConfig(batch_size=0),
    ],
)
def test_configs_check_themselves(make: object) -> None:
    with pytest.raises(SpaceError, match=r"must be|needs|choice"):
        make()  # type: ignore[operator]  # the table of cases is untyped


@pytest.mark.parametrize(
    "table",
    [
        {"momentum": {"low": 0.5, "high": 0.9, "scale": "log-complement"}, "one_minus_momentum": RATE},
        {"units": {"low": 4, "high": 8}, "units_per_layer": True, "depth": 2, "units_2": RATE},
    ],
)
def test_two_parameters_that_optuna_would_take_for_one_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(SpaceError, match=r"Two parameters are stored as (one_minus_momentum|units_2): .*Rename yours"):
        parse_space(table, own_names=True)
