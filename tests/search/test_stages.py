import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import SpecError
from caviar.search.stages import MAX_STAGES, default_promotion, default_stages, default_zoom


@given(st.integers(1, 10_000))
def test_stages_share_the_whole_budget_evenly(trials: int) -> None:
    stages = default_stages(trials)
    assert sum(stages) == trials
    assert max(stages) - min(stages) <= 1
    assert 1 <= len(stages) <= MAX_STAGES


def test_a_small_search_has_fewer_stages() -> None:
    assert [len(default_stages(trials)) for trials in (1, 15, 16, 23, 24, 1000)] == [1, 1, 2, 2, 3, 3]


def test_no_trials_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one trial, but got 0"):
        default_stages(0)


@pytest.mark.parametrize(("epochs", "rungs"), [(52, (4, 12, 36)), (20, (2, 6, 18)), (5, (1, 3)), (1, ())])
def test_the_first_rung_stands_after_a_thirteenth_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert default_promotion(epochs).rungs == rungs


def test_stages_zoom_around_few_trials() -> None:
    assert default_zoom().max_best == 20
