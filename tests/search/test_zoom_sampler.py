"""The sampler `zoom`: coarse to fine within one plain study, tier by tier where asked to, and in stock studies."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from caviar import ZoomSampler
from caviar.attributes import PAUSED
from caviar.errors import SpecError
from caviar.metrics import Direction
from caviar.parameters import ChoiceParameter, FloatParameter, IntParameter
from caviar.search.samplers import make_sampler_factory
from caviar.search.stages import zoom_plan
from caviar.search.zoom_sampler import good_default, stage_spaces
from caviar.space import DEFAULT_SPACE_TABLE, SearchSpace, parse_space
from caviar.spec import SearchSpec

SPACE = parse_space(DEFAULT_SPACE_TABLE)
CONDITIONAL = parse_space(
    {
        "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
        "decay": {"choices": ["none", "exponential"]},
        "decay_rate": {"low": 0.01, "high": 0.5},
        "depth": {"low": 1, "high": 3},
        "units": {"low": 8, "high": 64, "scale": "log"},
        "units_per_layer": True,
    }
)


def score(hyperparameters: Mapping[str, Any]) -> float:
    """Return what is best at a learning rate of 0.1 and knows of nothing else."""
    return -abs(math.log10(hyperparameters["learning_rate"]) + 1)


def search_on(study: optuna.Study, search: SearchSpec, n_trials: int, *, space: SearchSpace = SPACE) -> None:
    make = make_sampler_factory(search, space, seed=3)
    for _ in range(n_trials):
        study.sampler = make(len(study.get_trials(deepcopy=False)), study)
        trial = study.ask()
        study.tell(trial, score(space.suggest(trial)))


def searched(search: SearchSpec, *, space: SearchSpace = SPACE) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    search_on(study, search, search.trials, space=space)
    return study


def rates(study: optuna.Study, first: int, last: int) -> list[float]:
    return [math.log10(trial.params["learning_rate"]) for trial in study.trials[first:last]]


def test_later_stages_draw_in_narrower_ranges_and_every_trial_is_stored_under_the_whole_ones() -> None:
    search = SearchSpec(trials=60)
    study = searched(search)
    assert all(trial.distributions == SPACE.distributions() for trial in study.trials)
    plan = zoom_plan(search)
    assert plan.begins == (30, 45)
    coarse, middle, fine = stage_spaces(SPACE, study.trials, plan, Direction.MAXIMIZE)
    assert coarse is SPACE
    widths = [math.log10(s.parameters[0].high / s.parameters[0].low) for s in (coarse, middle, fine)]  # type: ignore[union-attr]
    assert widths[0] > 2 * widths[1] >= 2 * widths[2]
    distributions = fine.distributions()
    for trial in study.trials[45:]:
        for name, value in trial.params.items():
            assert distributions[name]._contains(distributions[name].to_internal_repr(value)), (name, value)
    assert max(rates(study, 45, 60)) - min(rates(study, 45, 60)) < 0.5 * (
        max(rates(study, 0, 30)) - min(rates(study, 0, 30))
    )


def test_the_first_stage_draws_what_tpe_draws() -> None:
    zoom, tpe = searched(SearchSpec(trials=48)), searched(SearchSpec(trials=48, sampler="tpe"))
    same = [a.params == b.params for a, b in zip(zoom.trials, tpe.trials, strict=True)]
    assert all(same[:24])
    assert not any(same[24:])


@pytest.mark.parametrize("options", [{}, {"tiers": True}, {"stages": 4}, {"stages": 1}])
def test_conditional_parameters_are_drawn_where_they_matter(options: dict[str, Any]) -> None:
    study = searched(SearchSpec(trials=40, sampler_options=options), space=CONDITIONAL)
    for trial in study.trials:
        assert ("decay_rate" in trial.params) == (trial.params["decay"] == "exponential")
        assert sum(name.startswith("units_") for name in trial.params) == trial.params["depth"]
        assert trial.distributions == {name: CONDITIONAL.distributions()[name] for name in trial.params}


def test_paused_and_failed_trials_and_parameters_fixed_from_outside_are_borne() -> None:
    search = SearchSpec(trials=30)
    study = optuna.create_study(direction="maximize")
    search_on(study, search, 12)
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
    paused = optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=study.trials[0].params,
        distributions=study.trials[0].distributions,
        intermediate_values={0: 0.5},
        system_attrs={PAUSED: True},
    )
    study.add_trial(paused)
    study._storage.set_trial_state_values(study.trials[13]._trial_id, TrialState.RUNNING)
    study.enqueue_trial({"depth": 4, "learning_rate": 0.9})
    search_on(study, search, 8)
    assert study.trials[14].params["depth"] == 4
    assert study.trials[14].params["learning_rate"] == 0.9
    assert all(trial.params.keys() == SPACE.distributions().keys() for trial in study.trials[14:])


def test_trials_that_fail_first_leave_the_first_stage_whole() -> None:
    def after_failures(sampler: str) -> optuna.Study:
        study = optuna.create_study(direction="maximize")
        study.add_trials([optuna.trial.create_trial(state=TrialState.FAIL)] * 40)
        search_on(study, SearchSpec(trials=32, sampler=sampler), 32)
        return study

    zoom, tpe = after_failures("zoom"), after_failures("tpe")
    same = [a.params == b.params for a, b in zip(zoom.trials, tpe.trials, strict=True)]
    assert all(same[:56])
    assert not any(same[56:])


def test_a_study_without_a_result_is_searched_in_the_whole_space() -> None:
    study = optuna.create_study()
    make = make_sampler_factory(SearchSpec(trials=20), SPACE, seed=0)
    for number in range(20):
        study.sampler = make(number, study)
        SPACE.suggest(study.ask())
    assert all(len(trial.params) == len(SPACE.parameters) for trial in study.trials)


def test_tier_by_tier_the_others_are_held_at_good_defaults() -> None:
    study = searched(SearchSpec(trials=60, sampler_options={"tiers": True}))
    assert all(trial.distributions == SPACE.distributions() for trial in study.trials)
    held = {
        name: [len({trial.params[name] for trial in study.trials[a:b]}) for a, b in ((0, 30), (30, 45), (45, 60))]
        for name in SPACE.distributions()
    }
    assert held["learning_rate"][0] == 30
    assert [held[name][0] for name in held if name != "learning_rate"] == [1] * 5
    assert held["depth"][:2] == held["batch_norm"][:2] == [1, 1]
    assert held["one_minus_momentum"][1] == 15
    assert held["units"][1] > 1
    assert held["depth"][2] > 1
    first = SPACE.hyperparameters(study.trials[0].params)
    first.pop("learning_rate")
    assert first == {"momentum": 0.9, "batch_size": 64, "units": 63, "depth": 2, "batch_norm": "none"}


def test_tiers_that_a_space_lacks_are_passed_over() -> None:
    space = parse_space(
        {"momentum": {"low": 0.5, "high": 0.99}, "depth": {"low": 1, "high": 4}, "dropout": {"low": 0.0, "high": 0.5}}
    )
    plan = zoom_plan(SearchSpec(trials=60, sampler_options={"tiers": True}))
    held = [[parameter.name for parameter in plan.held(space.parameters, stage)] for stage in range(3)]
    assert held == [["depth", "dropout"], [], []]
    one = zoom_plan(SearchSpec(trials=60, sampler_options={"tiers": True, "stages": 1}))
    assert one.held(SPACE.parameters, 0) == []


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (FloatParameter(name="momentum", low=0.5, high=0.999, scale="log-complement"), 0.1),
        (FloatParameter(name="momentum", low=0.95, high=0.999, scale="log-complement"), 0.05),
        (FloatParameter(name="dropout", low=0.1, high=0.5), 0.1),
        (IntParameter(name="batch_size", low=16, high=512, scale="log"), 64),
        (IntParameter(name="units_2", low=16, high=256, scale="log"), 63),
        (IntParameter(name="depth", low=1, high=5), 3),
        (ChoiceParameter(name="batch_size", choices=(16, 64)), 64),
        (ChoiceParameter(name="batch_size", choices=(16, 32)), 16),
        (ChoiceParameter(name="units", choices=(8, 64)), 64),
        (FloatParameter(name="temperature", low=0.01, high=1.0, scale="log"), 0.1),
    ],
)
def test_good_defaults_lie_in_the_range(parameter: Any, expected: float) -> None:
    assert good_default(parameter) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": 3}, r"Did you mean 'stages'\?"),
        ({"stages": 0}, "stages must be a whole number from 1 to 100, but got 0"),
        ({"stages": 2.0}, "stages must be a whole number"),
        ({"keep": 1.5}, "keep must lie between 0 and 1, but got 1.5"),
        ({"keep": "much"}, "keep must be a number, but got 'much'"),
        ({"tiers": 1}, "tiers must be true or false, but got 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_sampler_factory(SearchSpec(sampler_options=options), SPACE, seed=0)


def stock_objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("learning_rate", 1e-5, 1.0, log=True)
    width = trial.suggest_int("width", 8, 64, step=8)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    trial.suggest_categorical("twins", [1, True])
    trial.suggest_int("one", 4, 4)
    slope = trial.suggest_float("slope", 0.0, 1.0) if kind == "a" else 0.5
    return (math.log10(rate) + 3) ** 2 + 0.01 * abs(slope - 0.5) + width / 6400


def optimized(sampler: optuna.samplers.BaseSampler, n_trials: int = 45) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(stock_objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("tiers", [False, True])
def test_a_stock_study_goes_from_coarse_to_fine(tiers: bool) -> None:
    study = optimized(ZoomSampler(45, seed=1, tiers=tiers))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert {repr(trial.distributions["learning_rate"]) for trial in study.trials} == {
        "FloatDistribution(high=1.0, log=True, low=1e-05, step=None)"
    }
    assert {trial.params["width"] % 8 for trial in study.trials} == {0}
    assert study.trials[0].distributions["width"] == IntDistribution(8, 64, step=8)
    fine, coarse = rates(study, 33, 45), rates(study, 0, 22)
    assert max(fine) - min(fine) < 0.5 * (max(coarse) - min(coarse))
    assert abs(math.log10(study.best_params["learning_rate"]) + 3) < 0.2


def test_a_seed_repeats_a_search_that_is_interrupted_and_another_one_does_not() -> None:
    straight = optimized(ZoomSampler(30, seed=1), 30)
    resumed = optimized(ZoomSampler(30, seed=1), 14)
    resumed.sampler = ZoomSampler(30, seed=1)
    resumed.optimize(stock_objective, n_trials=16)
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in straight.trials]
    other = ZoomSampler(30, seed=1)
    other.reseed_rng()
    assert optimized(other, 1).trials[0].params != straight.trials[0].params


def test_two_objectives_and_a_budget_of_nothing_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=ZoomSampler(10))
    with pytest.raises(SpecError, match="one objective, but this study has 2"):
        study.ask({"slope": FloatDistribution(0.0, 1.0)})
    with pytest.raises(SpecError, match="at least one trial, but got 0"):
        ZoomSampler(0)
    with pytest.raises(SpecError, match="keep must lie between 0 and 1"):
        ZoomSampler(10, keep=0)
