import math

import pytest
from optuna.trial import TrialState

from caviar.record.run_content import (
    accepted_names,
    curve_points,
    diverged_epoch,
    is_accepted_name,
    run_params,
    run_tags,
    summary_points,
)

from .conftest import START, build_trial

START_MS = round(START.timestamp() * 1000)


def test_curve_has_a_step_an_epoch_from_zero_and_times_from_start_to_end() -> None:
    points = curve_points(build_trial(), {"loss": [3.0, 2.0, 1.0, 0.5]}, now_s=0.0)
    assert [point.step for point in points] == [0, 1, 2, 3]
    assert [point.value for point in points] == [3.0, 2.0, 1.0, 0.5]
    assert [point.time_ms - START_MS for point in points] == [2500, 5000, 7500, 10000]


def test_running_trials_last_epoch_ended_now() -> None:
    now = START.timestamp() + 6
    points = curve_points(build_trial(state=TrialState.RUNNING), {"loss": [3.0, 2.0]}, now_s=now)
    assert [point.time_ms - START_MS for point in points] == [3000, 6000]


def test_values_that_are_not_finite_are_left_out_and_the_first_is_named() -> None:
    curves = {"accuracy": [0.1, 0.2, 0.1], "loss": [2.0, math.inf, math.nan]}
    points = curve_points(build_trial(), curves, now_s=0.0)
    assert {(point.key, point.step) for point in points} == {
        ("accuracy", 0),
        ("accuracy", 1),
        ("accuracy", 2),
        ("loss", 0),
    }
    assert diverged_epoch(curves) == 1
    assert run_tags(build_trial(), curves, study_name="toy", study_uid="")["caviar.diverged_epoch"] == "1"
    assert diverged_epoch({"accuracy": [0.1]}) is None


def test_only_complete_trials_have_the_value_that_ranks_them() -> None:
    def summary(state: TrialState, **given: object) -> dict[str, float]:
        trial = build_trial(state=state, **given)  # type: ignore[arg-type]  # the test's own names
        return {point.key: point.value for point in summary_points(trial, now_s=0.0)}

    assert summary(TrialState.COMPLETE, value=0.97) == {"value": 0.97, "best_value": 0.97}
    assert summary(TrialState.PRUNED, value=0.5, user_attrs={"best_value": 0.6}) == {"best_value": 0.6}
    assert summary(TrialState.PRUNED, value=0.5) == {}
    assert summary(TrialState.FAIL) == {}
    assert summary(TrialState.RUNNING, user_attrs={"best_value": 0.6}) == {}


def test_parameters_are_named_as_thought_of_as_sampled_and_by_exponent() -> None:
    params = run_params(build_trial(), {"learning_rate": 0.01, "momentum": 0.9, "depth": 2})
    assert params == {
        "learning_rate": "0.01",
        "learning_rate_log10": "-2.0000",
        "momentum": "0.9",
        "one_minus_momentum": "0.1",
        "one_minus_momentum_log10": "-1.0000",
        "depth": "2",
        "batch_norm": "none",
    }


@pytest.mark.parametrize("name", ["a(b)+c", "a//b", "../x", "/x", ".x", "x,y", "", "ä" * 300, "a:b"])
def test_a_name_that_mlflow_refuses_is_written_with_underscores(name: str) -> None:
    names = accepted_names([name, "a_b__c", "learning_rate", "layers/1"])
    assert is_accepted_name(names[name])
    assert len(set(names.values())) == len(names)
    assert all(names[known] == known for known in ("a_b__c", "learning_rate", "layers/1"))


def test_a_parameter_called_as_an_exponent_keeps_its_value() -> None:
    assert run_params(build_trial(), {"learning_rate_log10": 7})["learning_rate_log10"] == "7"
