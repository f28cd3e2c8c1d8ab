"""Which trials TPE is shown, and as what, where they were trained for different numbers of epochs."""

import math
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from caviar.attributes import DIVERGED
from caviar.metrics import Direction
from caviar.search.fidelity import MIN_COMPARED, comparable_trials


def make_trial(number: int, curve: list[float], state: TrialState, **attrs: Any) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=max(curve) if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(curve)),
        user_attrs=attrs,
    )
    trial.number = number
    return trial


def shown(
    *trials: FrozenTrial, direction: Direction = Direction.MAXIMIZE
) -> dict[int, tuple[TrialState, float | None]]:
    return {
        trial.number: (trial.state, trial.value if trial.state == TrialState.COMPLETE else None)
        for trial in comparable_trials(trials, direction)
    }


COMPLETE, PRUNED, RUNNING, WAITING = (
    *(TrialState.COMPLETE, TrialState.PRUNED),
    *(TrialState.RUNNING, TrialState.WAITING),
)


def test_trials_are_compared_after_the_most_epochs_that_enough_have_reached() -> None:
    early = [make_trial(number, [0.1, 0.2], WAITING) for number in range(30)]
    further = [make_trial(100 + number, [0.1, 0.3, 0.5, 0.4], PRUNED) for number in range(MIN_COMPARED - 1)]
    complete = make_trial(200, [0.2, 0.6, 0.7, 0.7, 0.9], COMPLETE)
    seen = shown(*early, *further, complete)
    assert {seen[trial.number] for trial in early} == {(PRUNED, None)}
    assert {seen[trial.number] for trial in further} == {(COMPLETE, 0.5)}
    assert seen[200] == (COMPLETE, 0.7)
    seen = shown(*early, *further[1:], complete)
    assert seen[0] == (COMPLETE, 0.2)
    assert seen[101] == (COMPLETE, 0.3)
    assert seen[200] == (COMPLETE, 0.6)


def test_where_few_have_a_result_all_are_compared_after_the_fewest_epochs() -> None:
    seen = shown(
        make_trial(0, [0.4], WAITING),
        make_trial(1, [0.2, 0.9, 0.95], RUNNING),
        make_trial(2, [], RUNNING),
        make_trial(3, [], WAITING),
        make_trial(4, [0.3, math.nan], COMPLETE, **{DIVERGED: True}),
        make_trial(5, [0.3], TrialState.FAIL),
    )
    assert seen == {0: (COMPLETE, 0.4), 1: (COMPLETE, 0.2), 2: (RUNNING, None), 4: (PRUNED, None)}


def test_a_running_trial_that_came_as_far_has_a_result_and_one_that_did_not_runs() -> None:
    others = [make_trial(number, [0.5, 0.4], PRUNED) for number in range(MIN_COMPARED)]
    seen = shown(
        *others, make_trial(98, [0.9], RUNNING), make_trial(99, [0.9, 0.3, 0.2], RUNNING), direction=Direction.MINIMIZE
    )
    assert seen[0] == (COMPLETE, 0.4)
    assert seen[98] == (RUNNING, None)
    assert seen[99] == (COMPLETE, 0.3)


def test_a_trial_that_ended_early_or_reported_nothing_is_compared_by_its_value() -> None:
    others = [make_trial(number, [0.5] * 9, COMPLETE) for number in range(MIN_COMPARED)]
    silent = create_trial(state=COMPLETE, value=0.8)
    silent.number = 99
    seen = shown(*others, make_trial(50, [0.1, 0.6], COMPLETE), silent)
    assert seen[50] == (COMPLETE, 0.6)
    assert seen[99] == (COMPLETE, 0.8)
    assert shown() == {}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_takes_what_is_shown() -> None:
    trials = [make_trial(number, [0.1, number / 50], WAITING) for number in range(30)]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    for trial in comparable_trials(trials, Direction.MAXIMIZE):
        study._storage.create_new_trial(study._study_id, template_trial=trial)
    assert study.best_value == 29 / 50
    assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1
    assert all(trial.state == WAITING for trial in trials)
