"""How the trials of a warm-started study are drawn: by number, on any worker, with every sampler."""

import dataclasses
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from tests.search.test_warm_start import SPACE, learn, near_a_tenth, source, trials_of

from caviar.attributes import RETRY_HISTORY
from caviar.metrics import Direction
from caviar.search.samplers import SamplerFactory, make_sampler_factory
from caviar.search.warm_start import (
    WarmRule,
    WarmStart,
    configurations_by_trial,
    has_its_turn,
    n_results_to_learn,
    source_helps,
)
from caviar.spec import SearchSpec

NAMES = ["random", "grid", "qmc", "tpe", "cmaes", "optuna.samplers:NSGAIISampler"]
RULE = WarmRule(prior_share=0.5)
#: A study of trials that nobody trained, and what is taken of it.
WARM: WarmStart = learn(source(trials_of(SPACE, 80)), rule=RULE)
N_FIRST = len(WARM.configurations)
ALL = SPACE.distributions()


def factories(name: str, warm: WarmStart | None = WARM) -> tuple[SamplerFactory, SamplerFactory]:
    search = SearchSpec(sampler=name, trials=30)
    return make_sampler_factory(search, SPACE, seed=3), make_sampler_factory(search, SPACE, seed=3, warm=warm)


def sample(
    study: optuna.Study, make: SamplerFactory, n_trials: int, score: Callable[[dict[str, Any]], float] = near_a_tenth
) -> list[dict[str, Any]]:
    """Draw trials as a worker does; small values are good, and ``near_a_tenth`` is large where the source was good."""
    for _ in range(n_trials):
        study.sampler = make(len(study.get_trials(deepcopy=False)), study)
        trial = study.ask()
        study.tell(trial, -score(SPACE.suggest(trial)))
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def the_opposite(params: dict[str, Any]) -> float:
    return -near_a_tenth(params)


def in_prior(params: dict[str, Any]) -> bool:
    assert WARM.prior is not None
    return all(part._contains(part.to_internal_repr(params[name])) for name, part in WARM.prior.distributions().items())


@pytest.mark.parametrize("name", NAMES)
def test_trial_n_takes_the_nth_configuration(name: str) -> None:
    _, make = factories(name)
    drawn = sample(optuna.create_study(), make, N_FIRST)
    assert drawn == [dict(configuration.params) for configuration in WARM.configurations]
    late = optuna.create_study()
    late.sampler = make(N_FIRST - 1, late)  # another worker, which knows nothing of the trials before
    SPACE.suggest(trial := late.ask())
    assert trial.params == dict(WARM.configurations[-1].params)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_warm_study_draws_what_a_straight_one_would_have(name: str) -> None:
    _, make = factories(name)
    straight = sample(optuna.create_study(), make, 24)
    study = optuna.create_study()
    sample(study, make, 3)
    sample(study, make, 9)
    assert sample(study, make, 12) == straight
    assert len({tuple(params.items()) for params in straight}) == 24


@pytest.mark.parametrize("name", ["grid", "qmc"])
def test_a_sequence_begins_after_the_configurations(name: str) -> None:
    cold, make = factories(name)
    expected = sample(optuna.create_study(), cold, 10)
    assert sample(optuna.create_study(), make, N_FIRST + 10)[N_FIRST:] == expected


def test_random_search_draws_a_share_from_the_prior_where_the_source_helps_and_the_rest_as_ever() -> None:
    cold, make = factories("random")
    as_ever = sample(optuna.create_study(), cold, 30)
    drawn = sample(optuna.create_study(), make, 30)
    for number in range(N_FIRST, 30):
        if number >= N_FIRST + 5 and has_its_turn(number - N_FIRST, RULE.prior_share):
            assert in_prior(drawn[number])
        else:
            assert drawn[number] == as_ever[number]


def test_a_source_that_does_not_help_is_not_believed() -> None:
    cold, make = factories("random")
    drawn = sample(optuna.create_study(), make, 30, the_opposite)
    assert drawn[N_FIRST:] == sample(optuna.create_study(), cold, 30, the_opposite)[N_FIRST:]


def values_of(*values: float) -> list[FrozenTrial]:
    trials = [
        create_trial(value=value, params=dict(WARM.configurations[0].params), distributions=ALL) for value in values
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def test_a_source_helps_where_its_configurations_beat_three_quarters_of_the_others() -> None:
    better = values_of(0.9, 0.5, 0.1, 0.2, 0.3, 0.4)  # two configurations, then too few draws to judge them by
    two = dataclasses.replace(WARM, configurations=WARM.configurations[:2])
    none = dataclasses.replace(WARM, configurations=())
    assert not source_helps(better, two, Direction.MAXIMIZE)
    better += values_of(*range(6), 0.6)[-1:]
    assert source_helps(better, two, Direction.MAXIMIZE)
    assert not source_helps(better, two, Direction.MINIMIZE)
    assert not source_helps(better, none, Direction.MAXIMIZE)
    better[0].state = TrialState.RUNNING
    better[1].state = TrialState.FAIL
    assert not source_helps(better, two, Direction.MAXIMIZE)


def test_a_sampler_that_learns_is_left_alone_once_it_has_results() -> None:
    cold, make = factories("tpe")
    study = optuna.create_study()
    sample(study, make, 12)
    known = study.get_trials(deepcopy=False)
    drawn = []
    for factory in (cold, make):
        fresh = optuna.create_study()
        fresh.add_trials(known)
        fresh.sampler = factory(12, fresh)
        drawn.append(SPACE.suggest(fresh.ask()))
    assert drawn[0] == drawn[1]


def test_a_configuration_that_lacks_a_parameter_has_it_drawn() -> None:
    narrower = {name: value for name, value in WARM.configurations[0].params.items() if name != "depth"}
    first = WARM.configurations[0]
    warm = WarmStart(
        source="digits",
        n_trials=1,
        configurations=(type(first)(study="digits", trial=0, value=0.9, params=narrower),),
        prior=None,
        prior_share=0.5,
        reason="",
    )
    for name in NAMES:
        drawn = sample(optuna.create_study(), factories(name, warm)[1], 1)[0]
        assert {**narrower, "depth": drawn["depth"]} == drawn


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_failures", [1, 2])
def test_a_retry_takes_its_trials_configuration_again_and_no_other_ones(name: str, n_failures: int) -> None:
    _, make = factories(name)
    study = optuna.create_study()
    sample(study, make, 1)
    failed: list[int] = []
    for _ in range(n_failures + 1):  # the second trial fails, and so do its retries but the last
        study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={RETRY_HISTORY: failed} if failed else {}))
        study.sampler = make(failed[0] if failed else 1, study)
        SPACE.suggest(trial := study.ask())
        failed = [*failed, trial.number]
        study.tell(trial, state=TrialState.FAIL) if len(failed) <= n_failures else study.tell(trial, 0.0)
    sample(study, make, 8)
    expected = sample(optuna.create_study(), factories(name)[1], N_FIRST + 1)
    trials = study.get_trials(deepcopy=False)
    tried = [trial.params for trial in trials if trial.state == TrialState.COMPLETE]
    assert tried[:N_FIRST] == expected[:N_FIRST]
    assert all(trial.params == expected[1] for trial in trials[1 : 2 + n_failures])
    if name in ("grid", "qmc"):  # the sequence then begins with its first point
        assert tried[N_FIRST] == expected[N_FIRST]
    taken = configurations_by_trial(WARM, trials)
    assert [taken[number] for number in range(2 + n_failures)] == [
        WARM.configurations[0],
        *[WARM.configurations[1]] * (n_failures + 1),
    ]
    assert len(taken) == N_FIRST + n_failures


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (SearchSpec(sampler="random"), float("inf")),
        (SearchSpec(sampler="grid"), 0),
        (SearchSpec(sampler="qmc"), 0),
        (SearchSpec(sampler="tpe"), 10),
        (SearchSpec(sampler="tpe", sampler_options={"n_startup_trials": 25}), 25),
        (SearchSpec(sampler="cmaes"), 1),
        (SearchSpec(sampler="optuna.samplers:NSGAIISampler"), 0),
    ],
)
def test_blind_draws_are_those_before_a_sampler_learns(search: SearchSpec, expected: float) -> None:
    assert n_results_to_learn(search) == expected


@pytest.mark.parametrize(("share", "turns"), [(0.0, ""), (0.5, "0 2 4 6 8"), (1 / 3, "0 3 6 9"), (1.0, "0123456789")])
def test_a_share_is_spread_evenly(share: float, turns: str) -> None:
    having = [index for index in range(10) if has_its_turn(index, share)]
    assert having == [int(digit) for digit in turns.replace(" ", "")]
