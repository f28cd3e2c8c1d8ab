"""What a new study takes over from another one: pure decisions on stored trials."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from caviar.attributes import DIVERGED, PARENT_TRIAL, WARM_START
from caviar.errors import SpecError
from caviar.metrics import Direction
from caviar.search.sequences import value_at
from caviar.search.warm_start import (
    SourceStudy,
    WarmRule,
    fitted_params,
    learn_from,
    warm_start_json,
    warm_start_of,
)
from caviar.space import SearchSpace, parse_space

TABLE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
    "momentum": {"low": 0.5, "high": 0.99, "scale": "log-complement"},
    "depth": {"low": 1, "high": 6},
    "batch_norm": {"choices": ["none", "before_activation", "after_activation"]},
}
SPACE = parse_space(TABLE)


def near_a_tenth(params: dict[str, Any]) -> float:
    """Return an accuracy that only the learning rate decides."""
    return 0.9 - 0.1 * abs(math.log10(params["learning_rate"]) + 1)


def trials_of(space: SearchSpace, n: int, *, seed: int = 0) -> list[FrozenTrial]:
    rng, distributions = np.random.default_rng(seed), space.distributions()
    drawn = [{name: value_at(part, rng.random()) for name, part in distributions.items()} for _ in range(n)]
    return [finished(params, space, number=number) for number, params in enumerate(drawn)]


def finished(params: dict[str, Any], space: SearchSpace, *, number: int = 0, **attributes: Any) -> FrozenTrial:
    distributions = {name: space.distributions()[name] for name in params}
    trial = create_trial(value=near_a_tenth(params), params=params, distributions=distributions, user_attrs=attributes)
    trial.number = number
    return trial


def source(trials: list[FrozenTrial], space: SearchSpace = SPACE, name: str = "digits") -> SourceStudy:
    return SourceStudy(name=name, space=space, trials=trials)


def learn(*studies: SourceStudy, space: SearchSpace = SPACE, trials: int = 40, rule: WarmRule | None = None) -> Any:
    return learn_from("digits", studies, space, direction=Direction.MAXIMIZE, trials=trials, rule=rule or WarmRule())


def test_the_best_configurations_come_first_and_differ() -> None:
    trials = trials_of(SPACE, 60)
    warm = learn(source(trials))
    values = [configuration.value for configuration in warm.configurations]
    known = sorted((near_a_tenth(trial.params) for trial in trials), reverse=True)
    assert values == sorted(values, reverse=True)
    assert values[0] == known[0]
    assert len(values) == 5
    nearest = learn(source(trials), rule=WarmRule(distance=0.0))
    assert [configuration.value for configuration in nearest.configurations] == known[:5]
    copies = [finished(trials[0].params, SPACE, number=number) for number in range(60)]
    assert len(learn(source(copies)).configurations) == 1


def test_configurations_take_at_most_a_quarter_of_the_budget() -> None:
    trials = trials_of(SPACE, 60)
    counts = [len(learn(source(trials), trials=budget).configurations) for budget in (1, 4, 8, 15, 400)]
    assert counts == [1, 1, 2, 3, 5]


def test_values_outside_the_new_range_become_its_nearest_end() -> None:
    space = parse_space(
        {
            "learning_rate": {"low": 1e-3, "high": 0.05, "scale": "log"},
            "momentum": {"low": 0.9, "high": 0.95},
            "depth": {"low": 2, "high": 3},
            "batch_norm": {"choices": ["none", "after_activation"]},
            "dropout": {"low": 0.0, "high": 0.5},
        }
    )
    found = {"learning_rate": 0.1, "momentum": 0.5, "depth": 6, "batch_norm": "before_activation", "units": 8}
    assert fitted_params(found, space) == {"learning_rate": 0.05, "momentum": 0.9, "depth": 3}
    assert fitted_params({"momentum": 0.92, "dropout": 0.1}, space) == {"momentum": 0.92, "dropout": 0.1}


def test_a_value_is_stored_on_the_new_studys_scale() -> None:
    assert fitted_params({"momentum": 0.9}, SPACE) == {"one_minus_momentum": 0.1}
    assert fitted_params({"momentum": 0.9999}, SPACE) == {"one_minus_momentum": 0.01}


def test_widths_are_taken_layer_by_layer() -> None:
    table = {"depth": {"low": 1, "high": 3}, "units": {"low": 8, "high": 64}}
    own = parse_space({**table, "units_per_layer": True})
    assert fitted_params({"depth": 2, "units": (16, 128)}, own) == {"depth": 2, "units_1": 16, "units_2": 64}
    assert fitted_params({"depth": 1, "units": 16}, own) == {"depth": 1, "units_1": 16, "units_2": 16, "units_3": 16}
    assert fitted_params({"depth": 2, "units": (16, 128)}, parse_space(table)) == {"depth": 2}


def test_the_prior_is_narrowed_where_the_sources_best_lie_and_nowhere_else() -> None:
    warm = learn(source(trials_of(SPACE, 80)))
    wide = {parameter.name: parameter for parameter in SPACE.parameters}
    narrow = {parameter.name: parameter for parameter in warm.prior.parameters}
    assert narrow["learning_rate"].low > 0.005
    assert narrow["learning_rate"].high <= 1.0
    assert narrow["momentum"] == wide["momentum"]
    assert "learning_rate" in warm.reason or "of the space" in warm.reason


def test_the_prior_stays_within_the_new_space() -> None:
    trials = trials_of(SPACE, 80)
    lower = parse_space({**TABLE, "learning_rate": {"low": 1e-5, "high": 0.1, "scale": "log"}})
    prior = {parameter.name: parameter for parameter in learn(source(trials), space=lower).prior.parameters}
    assert prior["learning_rate"].high == 0.1
    apart = parse_space({**TABLE, "learning_rate": {"low": 1e-6, "high": 1e-4, "scale": "log"}})
    assert learn(source(trials), space=apart).prior is None


def test_a_zoom_of_the_source_counts_once_and_with_its_own_trials() -> None:
    trials = trials_of(SPACE, 40)
    finer = parse_space({**TABLE, "learning_rate": {"low": 0.05, "high": 0.2, "scale": "log"}})
    best = {"learning_rate": 0.1, "one_minus_momentum": 0.1, "depth": 3, "batch_norm": "none"}
    copied = finished(trials[0].params, SPACE, number=0, **{PARENT_TRIAL: 0})
    zoom = source([copied, finished(best, finer, number=1)], finer, "digits-zoom-1")
    warm = learn(source(trials), zoom)
    assert warm.n_trials == 41
    first = warm.configurations[0]
    assert (first.study, first.trial, dict(first.params)) == ("digits-zoom-1", 1, best)


def test_a_source_that_says_little_gives_what_it_has() -> None:
    one = learn(source(trials_of(SPACE, 1)))
    assert len(one.configurations) == 1
    assert one.prior is None
    assert "at least 5 trials" in one.reason


def test_a_source_without_a_result_is_refused() -> None:
    params = trials_of(SPACE, 1)[0].params
    failed = create_trial(state=TrialState.FAIL, params=params, distributions=SPACE.distributions())
    diverged = finished(params, SPACE, **{DIVERGED: True})
    for trials in ([], [failed], [diverged]):
        with pytest.raises(SpecError, match="'digits' has no trial with a result"):
            learn(source(trials))


def test_a_source_without_a_common_hyperparameter_is_refused() -> None:
    other = parse_space({"dropout": {"low": 0.0, "high": 0.5}, "learning_rate": 0.1})
    with pytest.raises(
        SpecError, match=r"searched learning_rate, momentum.* this one searches dropout: they have nothing in"
    ):
        learn(source(trials_of(SPACE, 10)), space=other)


def test_a_warm_start_is_kept_as_text() -> None:
    warm = learn(source(trials_of(SPACE, 60)))
    study = optuna.create_study()
    assert warm_start_of(study) is None
    study.set_user_attr(WARM_START, warm_start_json(warm))
    assert warm_start_of(study) == warm


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"distance": 2.0}, "distance must"),
        ({"prior_share": 1.5}, "prior_share"),
        ({"n_configurations": -1}, "least 0"),
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        WarmRule(**wrong)
