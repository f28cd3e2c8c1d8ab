"""Coarse to fine: what a narrower space holds, when there is none, and what Optuna makes of it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from scipy.stats import hypergeom

from caviar.attributes import PARENT_TRIAL, PAUSED
from caviar.errors import SpecError
from caviar.metrics import Direction
from caviar.parameters import ChoiceParameter, FloatParameter, IntParameter
from caviar.search.narrowing import MIN_WIDTH, ZoomRule, narrow_choices
from caviar.search.zoom import Observation, ZoomResult, copies_that_fit, narrow_space, observations_of
from caviar.space import DEFAULT_SPACE_TABLE, SearchSpace, parse_space

SPACE = parse_space(
    {**DEFAULT_SPACE_TABLE, "dropout": {"low": 0.0, "high": 0.9}, "batch_norm_momentum": {"low": 0.1, "high": 0.9}}
)


def draw(space: SearchSpace, number: int, *, seed: int = 0) -> dict[str, Any]:
    sampler = optuna.samplers.RandomSampler(seed=1000 * seed + number)
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    space.suggest(trial)
    return dict(trial.params)


def observe(space: SearchSpace, n: int, cost: Any, *, seed: int = 0) -> list[Observation]:
    drawn = [draw(space, number, seed=seed) for number in range(n)]
    return [Observation(params=params, cost=cost(params)) for params in drawn]


def far_from(params: Mapping[str, Any]) -> float:
    """A cost with its best at learning rate 0.1 and momentum 0.99, that depends on nothing else."""
    return abs(math.log10(params["learning_rate"]) + 1) + abs(math.log10(params["one_minus_momentum"]) + 2)


def holds(space: SearchSpace, params: Mapping[str, Any]) -> bool:
    for name, distribution in space.distributions().items():
        if name in params and not distribution._contains(distribution.to_internal_repr(params[name])):
            return False
    return True


def range_of(result: ZoomResult[SearchSpace], name: str) -> FloatParameter | IntParameter:
    (parameter,) = (parameter for parameter in result.space.parameters if parameter.name == name)
    assert not isinstance(parameter, ChoiceParameter)
    return parameter


def test_zoom_narrows_what_matters_and_leaves_the_rest_wide() -> None:
    result = narrow_space(SPACE, observe(SPACE, 80, far_from))
    assert result.worthwhile
    assert "best 16 of 80 trials" in result.reason
    rate, momentum = range_of(result, "learning_rate"), range_of(result, "momentum")
    assert 1e-4 < rate.low < 0.1 < rate.high < 1.0
    assert 0.5 < momentum.low < 0.99 < momentum.high <= 0.999
    assert range_of(result, "dropout") == range_of(ZoomResult(space=SPACE, worthwhile=True, reason=""), "dropout")
    assert "scattered like all" in result.notes["dropout"]
    assert "narrowed to" in result.notes["learning_rate"]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    keep=st.sampled_from([0.05, 0.2, 0.5]),
    weights=st.tuples(*[st.sampled_from([0.0, 1.0, -1.0])] * 5),
)
def test_zooms_hold_the_best_and_stay_inside_the_first_space(
    seed: int, keep: float, weights: tuple[float, ...]
) -> None:
    rng, space = np.random.default_rng(seed), SPACE
    rule = ZoomRule(keep=keep, doubt=0.5)
    for zoom in range(3):
        drawn = [draw(space, number, seed=seed + zoom) for number in range(12)]
        observations = []
        for params in drawn:
            terms = (
                math.log10(params["learning_rate"]),
                math.log10(params["one_minus_momentum"]),
                params["depth"],
                params["units"] / 100,
                params["dropout"],
            )
            cost = sum(weight * term for weight, term in zip(weights, terms, strict=True)) + 0.1 * rng.normal()
            observations.append(Observation(params=params, cost=cost))
        result = narrow_space(space, observations, root=SPACE, rule=rule)
        shuffled = [observations[index] for index in rng.permutation(len(observations))]
        assert narrow_space(space, shuffled, root=SPACE, rule=rule) == result
        if result.worthwhile:
            best = sorted(observations, key=lambda observation: observation.cost)[: result.n_best]
            assert all(holds(result.space, observation.params) for observation in best)
        wide = {parameter.name: parameter for parameter in SPACE.parameters}
        for parameter in result.space.parameters:
            before = wide[parameter.name]
            if isinstance(parameter, ChoiceParameter):
                assert isinstance(before, ChoiceParameter)
                assert set(parameter.choices) <= set(before.choices)
            else:
                assert not isinstance(before, ChoiceParameter)
                assert before.low <= parameter.low < parameter.high <= before.high
        space = result.space


def test_repeated_zooms_end_at_the_floor_and_say_so() -> None:
    space = SearchSpace(parameters=(FloatParameter(name="learning_rate", low=1e-4, high=1.0, scale="log"),))
    worthwhile, root = True, space
    for zoom in range(20):
        observations = observe(space, 20, lambda params: abs(math.log10(params["learning_rate"]) + 2.2), seed=zoom)
        result = narrow_space(space, observations, root=root)
        worthwhile, space = result.worthwhile, result.space
        if not worthwhile:
            break
    assert not worthwhile
    assert "spread over the whole space" in result.reason or "too little" in result.reason
    (parameter,) = space.parameters
    assert isinstance(parameter, FloatParameter)
    assert parameter.low < 10**-2.2 < parameter.high
    assert math.log10(parameter.high / parameter.low) == pytest.approx(4 * MIN_WIDTH, rel=0.2)


def test_range_grows_again_where_the_best_sits_at_its_edge() -> None:
    child = SearchSpace(parameters=(FloatParameter(name="learning_rate", low=0.001, high=0.01, scale="log"),))
    root = SearchSpace(parameters=(FloatParameter(name="learning_rate", low=1e-4, high=1.0, scale="log"),))
    result = narrow_space(child, observe(child, 40, lambda params: -params["learning_rate"]), root=root)
    assert range_of(result, "learning_rate").high > 0.01
    assert "the high end" in result.notes["learning_rate"]
    alone = narrow_space(child, observe(child, 40, lambda params: -params["learning_rate"]))
    assert range_of(alone, "learning_rate").high <= 0.01


def test_choices_that_never_won_are_dropped_and_what_hangs_on_them() -> None:
    observations = observe(SPACE, 60, lambda params: float(params["batch_norm"] != "none") + 0.01 * params["dropout"])
    result = narrow_space(SPACE, observations)
    kept = {parameter.name: parameter for parameter in result.space.parameters}
    assert kept["batch_norm"] == ChoiceParameter(name="batch_norm", choices=("none",))
    assert "batch_norm_momentum" not in kept
    assert "dropped: never among the best" in result.notes["batch_norm"]


def test_a_choice_that_was_never_tried_stays() -> None:
    observations = [
        Observation(params={**observation.params, "batch_size": 64}, cost=observation.cost)
        for observation in observe(SPACE, 40, far_from)
    ]
    kept = {parameter.name: parameter for parameter in narrow_space(SPACE, observations).space.parameters}
    assert kept["batch_size"] == ChoiceParameter(name="batch_size", choices=(32, 64, 128))


@settings(deadline=None)
@given(n_best=st.integers(1, 30), n_with=st.integers(0, 40), n_without=st.integers(0, 40), doubt=st.floats(0.01, 0.5))
def test_a_choice_is_dropped_when_it_would_hardly_be_missing_by_chance(
    n_best: int, n_with: int, n_without: int, doubt: float
) -> None:
    chance = hypergeom.pmf(0, n_best + n_with + n_without, n_with, n_best)
    assume(not math.isclose(chance, doubt))
    parameter = ChoiceParameter(name="batch_size", choices=(32, 64))
    narrowed = narrow_choices(parameter, [32] * n_best, [64] * n_with + [32] * n_without, doubt=doubt)
    assert isinstance(narrowed.parameter, ChoiceParameter)
    assert (64 in narrowed.parameter.choices) == (chance > doubt)


def test_a_study_of_thousands_of_trials_is_narrowed_too() -> None:
    rate = {"low": 1e-4, "high": 1.0, "scale": "log"}
    observations = [
        Observation(params={"learning_rate": 10 ** (-4 * place / 2000), "batch_size": size}, cost=place)
        for place, size in enumerate([64] * 400 + [32, 128] * 800)
    ]
    result = narrow_space(parse_space({"learning_rate": rate, "batch_size": {"choices": [32, 64, 128]}}), observations)
    assert range_of(result, "learning_rate").low > 0.1
    assert "32, 128 dropped" in result.notes["batch_size"]


def test_widths_of_layers_are_narrowed_together() -> None:
    table = {"depth": {"low": 1, "high": 3}, "units": {"low": 8, "high": 512, "scale": "log"}, "units_per_layer": True}
    space = parse_space(table)
    cost = lambda params: sum(abs(math.log2(params[name]) - 5) for name in params if name != "depth")  # noqa: E731
    result = narrow_space(space, observe(space, 60, cost))
    assert result.space.units_per_layer
    assert range_of(result, "units").high < 512


@pytest.mark.parametrize(
    ("observations", "reason"),
    [
        ([], "no trials yet"),
        ([Observation(params={"learning_rate": 0.1}, cost=0.5)], "at least 5 trials"),
        ([Observation(params={"learning_rate": 0.1}, cost=math.inf, complete=False)] * 9, "None of the 9 trials"),
        ([Observation(params={"learning_rate": rate / 10}, cost=0.5) for rate in range(1, 9)], "the same result"),
    ],
)
def test_a_study_that_says_nothing_gives_a_reason(observations: list[Observation], reason: str) -> None:
    result = narrow_space(SPACE, observations)
    assert not result.worthwhile
    assert result.space == SPACE
    assert reason in result.reason


def test_pruned_trials_count_by_what_they_reached() -> None:
    drawn = observe(SPACE, 40, far_from)
    pruned = [Observation(params=seen.params, cost=seen.cost, complete=False) for seen in drawn]
    result = narrow_space(SPACE, pruned)
    assert result.worthwhile
    assert "None was trained to its end" in result.reason


def test_bad_rules_are_refused() -> None:
    with pytest.raises(SpecError, match="keep must lie between 0 and 1, but got 1"):
        ZoomRule(keep=1)
    with pytest.raises(SpecError, match="max_best must be at least 2, but got 1"):
        ZoomRule(max_best=1)
    with pytest.raises(SpecError, match=r"doubt must lie in \[0, 1\], but got 2"):
        ZoomRule(doubt=2)


def test_stored_trials_are_seen_and_those_that_fit_join_a_child_study() -> None:
    parent = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(40):
        trial = parent.ask()
        SPACE.suggest(trial)
        trial.report(1 - far_from(trial.params) / 5, 0)
        if number % 3 == 0:
            parent.tell(trial, state=TrialState.PRUNED)
        elif number % 7 == 0:
            parent.tell(trial, state=TrialState.FAIL)
        else:
            parent.tell(trial, 1 - far_from(trial.params) / 5)
    seen = observations_of(parent.trials, Direction.MAXIMIZE)
    assert len(seen) == sum(trial.state != TrialState.FAIL for trial in parent.trials)
    result = narrow_space(SPACE, seen)
    copies = copies_that_fit(result.space, parent.trials)
    assert result.n_best <= len(copies) < len(seen)
    child = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(multivariate=True, seed=0))
    child.add_trials(copies)
    result.space.suggest(child.ask())
    assert {trial.user_attrs[PARENT_TRIAL] for trial in child.trials[:-1]} <= {trial.number for trial in parent.trials}
    best = max(trial.value for trial in parent.trials if trial.state == TrialState.COMPLETE and trial.value is not None)
    assert child.best_value == best


def test_diverged_trials_are_never_among_the_best() -> None:
    distributions = {"learning_rate": SPACE.distributions()["learning_rate"]}
    trial = create_trial(
        state=TrialState.PRUNED,
        value=0.0,
        params={"learning_rate": 1.0},
        distributions=distributions,
        intermediate_values={0: 0.9, 1: 0.0},
        user_attrs={"diverged": True},
    )
    assert observations_of([trial], Direction.MAXIMIZE)[0].cost == math.inf


def test_what_has_not_ended_stays_the_wider_studys() -> None:
    distributions = {"learning_rate": SPACE.distributions()["learning_rate"]}
    space = SearchSpace(parameters=(FloatParameter(name="learning_rate", low=0.01, high=0.1, scale="log"),))
    paused = create_trial(
        state=TrialState.WAITING,
        params={"learning_rate": 0.05},
        distributions=distributions,
        intermediate_values={0: 0.5, 1: 0.6},
        system_attrs={PAUSED: True},
    )
    running = create_trial(state=TrialState.RUNNING, params={"learning_rate": 0.05}, distributions=distributions)
    assert copies_that_fit(space, [paused, running, create_trial(state=TrialState.WAITING)]) == []
    assert observations_of([paused], Direction.MAXIMIZE)[0].cost == -0.6, "but what it showed counts"
