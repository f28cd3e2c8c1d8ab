import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial
from scipy import stats

from caviar.attributes import RETRY_HISTORY
from caviar.errors import SpecError
from caviar.search.sequences import (
    GridSequence,
    grid_points,
    position_of,
    quasi_random_point,
    sequence_index,
    value_at,
)

SPACE: dict[str, Any] = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "units": IntDistribution(4, 64, log=True),
    "depth": IntDistribution(1, 3),
    "batch_norm": CategoricalDistribution(["none", "before_activation"]),
}


def test_a_grid_is_even_on_each_scale_and_has_the_ends() -> None:
    assert grid_points(SPACE["learning_rate"], 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert grid_points(SPACE["units"], 3) == [4, 16, 64]
    assert grid_points(SPACE["depth"], 5) == [1, 2, 3]
    assert grid_points(SPACE["batch_norm"], 5) == ["none", "before_activation"]
    assert grid_points(SPACE["learning_rate"], 1) == pytest.approx([1e-2])


def test_a_grid_gives_every_combination_once_in_an_order_of_its_seed() -> None:
    grid = GridSequence(SPACE, points=3, seed=1)
    points = [grid.point(number) for number in range(len(grid))]
    assert len({tuple(point.values()) for point in points}) == len(grid) == 3 * 3 * 3 * 2
    assert grid.point(len(grid) + 2) == points[2]
    assert GridSequence(SPACE, points=3, seed=1).point(7) == points[7]
    assert [GridSequence(SPACE, points=3, seed=2).point(number) for number in range(len(grid))] != points


@pytest.mark.parametrize(
    ("points", "way"), [(10**9, "Lower points in search.sampler_options to 31"), (10**400, "to 31")]
)
def test_a_grid_that_fits_no_memory_is_refused_with_the_points_that_do(points: int, way: str) -> None:
    floats = {name: FloatDistribution(0.0, 1.0) for name in ("a", "b", "c", "d")}
    distributions = {**floats, "e": CategoricalDistribution(tuple(range(10)))}
    with pytest.raises(SpecError, match=way):
        GridSequence(distributions, points=points, seed=0)
    assert len(GridSequence(distributions, points=31, seed=0)) == 31**4 * 10
    assert len(GridSequence({"units": IntDistribution(1, 16)}, points=points, seed=0)) == 16
    choices = {name: CategoricalDistribution(tuple(range(300))) for name in "abc"}
    with pytest.raises(SpecError, match="Give fewer choices"):
        GridSequence(choices, points=points, seed=0)


def test_sobol_points_cover_each_scale_evenly_and_do_not_depend_on_what_was_asked_before() -> None:
    points = [quasi_random_point(SPACE, number, seed=1) for number in range(64)]
    exponents = [math.log10(point["learning_rate"]) for point in points]
    assert stats.kstest(exponents, stats.uniform(-4, 4).cdf).statistic < 0.05
    assert sum(point["batch_norm"] == "none" for point in points) == 32
    assert quasi_random_point(SPACE, 40, seed=1) == points[40]
    assert quasi_random_point(SPACE, 40, seed=2) != points[40]


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(list(SPACE.values())))
def test_every_position_is_a_value_of_the_range(position: float, distribution: Any) -> None:
    value = value_at(distribution, position)
    assert distribution._contains(distribution.to_internal_repr(value))


def test_positions_run_from_the_low_end_to_the_high_one() -> None:
    assert value_at(SPACE["learning_rate"], 0.5) == pytest.approx(1e-2)
    assert [value_at(SPACE["depth"], position) for position in (0.0, 0.5, 0.99)] == [1, 2, 3]
    assert value_at(SPACE["batch_norm"], 0.5) == "before_activation"


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["learning_rate", "units", "depth"]))
def test_a_position_leads_to_a_value_and_back(position: float, name: str) -> None:
    value = value_at(SPACE[name], position)
    again = position_of(SPACE[name], value)
    assert 0 <= again <= 1
    assert value_at(SPACE[name], again) == pytest.approx(value)
    if name == "learning_rate":
        assert again == pytest.approx(position, abs=1e-9)


def test_a_retry_takes_no_index_from_the_trials_after_it() -> None:
    study = optuna.create_study()
    for history in ([], [], [1], [], [1, 2], []):
        study.add_trial(create_trial(value=0.0, system_attrs={RETRY_HISTORY: history} if history else {}))
    origins = [0, 1, 1, 3, 1, 5]
    assert [sequence_index(origin, study.trials) for origin in origins] == [0, 1, 1, 2, 1, 3]
    assert sequence_index(6, study.trials) == 4
