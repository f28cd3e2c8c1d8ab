import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.insight.axes import metric_axis, parameter_axis, scale_position, scale_value
from caviar.insight.rows import drawn_parameters
from caviar.insight.words import shown
from caviar.parameters import ChoiceParameter, FloatParameter, IntParameter
from caviar.space import parse_space

MOMENTUM = FloatParameter(name="momentum", low=0.5, high=0.999, scale="log-complement")
RATE = FloatParameter(name="learning_rate", low=1e-4, high=1.0, scale="log")


@given(st.floats(0.5, 0.999))
def test_a_log_complement_axis_places_a_momentum_by_the_exponent_of_what_is_left(momentum: float) -> None:
    assert scale_position(MOMENTUM)(momentum) == pytest.approx(-math.log10(1 - momentum))
    assert scale_value(MOMENTUM, scale_position(MOMENTUM)(momentum)) == pytest.approx(momentum)


@given(st.floats(1e-4, 1.0))
def test_a_log_axis_places_a_value_by_its_exponent(rate: float) -> None:
    assert scale_position(RATE)(rate) == pytest.approx(math.log10(rate))
    assert scale_value(RATE, scale_position(RATE)(rate)) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("parameter", "labels"),
    [
        (RATE, ["0.0001", "0.001", "0.01", "0.1", "1"]),
        (MOMENTUM, ["0.5", "0.9", "0.95", "0.99", "0.995", "0.999"]),
        (IntParameter(name="depth", low=1, high=4), ["1", "2", "3", "4"]),
        (IntParameter(name="units", low=16, high=256, scale="log"), ["16", "32", "64", "128", "256"]),
        (FloatParameter(name="dropout", low=0.0, high=0.5), ["0", "0.125", "0.25", "0.375", "0.5"]),
        (ChoiceParameter(name="batch_size", choices=(32, 64)), ["32", "64"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_ticks_are_values_as_one_thinks_of_them_in_rising_order(
    parameter: FloatParameter | IntParameter | ChoiceParameter, labels: list[str]
) -> None:
    axis = parameter_axis(parameter)
    assert [label for _, label in axis.ticks] == labels
    positions = [position for position, _ in axis.ticks]
    assert positions == sorted(positions)
    assert axis.low <= positions[0] < positions[-1] <= axis.high


def test_a_better_metric_stands_higher_for_an_accuracy_and_lower_for_a_loss() -> None:
    accuracy = metric_axis("val_accuracy", [0.1, 0.98, 1.0])
    assert accuracy.position(0.1) < accuracy.position(0.98) < accuracy.position(1.0) < accuracy.high
    loss = metric_axis("val_loss", [0.05, 2.3])
    assert loss.position(0.05) < loss.position(2.3)
    assert "0.98" in [label for _, label in accuracy.ticks]


@pytest.mark.parametrize("values", [[], [1.0], [0.0], [0.5, 0.5]])
@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_an_axis_exists_for_few_and_equal_values(metric: str, values: list[float]) -> None:
    axis = metric_axis(metric, values)
    assert axis.low < axis.high
    assert all(math.isfinite(axis.position(value)) for value in values)


def test_widths_of_single_layers_are_parameters_of_their_own() -> None:
    space = parse_space({"units": {"low": 8, "high": 64}, "depth": {"low": 1, "high": 3}, "units_per_layer": True})
    assert [parameter.name for parameter in drawn_parameters(space)] == ["depth", "units_1", "units_2", "units_3"]
    assert {parameter.tier for parameter in drawn_parameters(space)} == {2, 3}


def test_values_are_shown_as_a_person_reads_them() -> None:
    assert [shown(value) for value in (0.123456, 32, True, "relu", (8, 16))] == [
        "0.1235",
        "32",
        "true",
        "relu",
        "8, 16",
    ]
