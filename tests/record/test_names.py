"""Every name is one that MLflow takes, and different ones stay different."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Param
from mlflow.utils.validation import _validate_batch_log_data

from caviar.record.names import mlflow_name


@given(st.text() | st.text("./ a", max_size=6) | st.just("x" * 251))
def test_mlflow_takes_the_name(name: str) -> None:
    _validate_batch_log_data([], [Param(mlflow_name(name), "1")], [])  # type: ignore[no-untyped-call]  # MLflow has no types
    assert mlflow_name(mlflow_name(name)) == mlflow_name(name)


@pytest.mark.parametrize("name", ["learning_rate", "units_2", "größe", "a/b c-d.e"])
def test_what_mlflow_takes_stays_as_it_is(name: str) -> None:
    assert mlflow_name(name) == name


def test_different_names_stay_different() -> None:
    names = ["a%", "a$", "a(", "/a", "./a", "x" * 251, "x" * 252, ""]
    assert len({mlflow_name(name) for name in names}) == len(names)
