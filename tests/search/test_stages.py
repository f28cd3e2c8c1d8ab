import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import SpecError
from caviar.search.stages import MAX_STAGES, MIN_STAGE_TRIALS, default_promotion, default_stages


@given(st.integers(1, 10_000))
def test_stages_share_the_whole_budget_evenly(trials: int) -> None:
    stages = default_stages(trials)
    shares = [stage.trials for stage in stages]
    assert sum(shares) == trials
    assert max(shares) - min(shares) <= 1
    assert 1 <= len(stages) <= MAX_STAGES
    assert len(stages) == 1 or min(shares) >= MIN_STAGE_TRIALS


def test_the_first_stage_covers_the_space_and_the_others_use_the_sampler_asked_for() -> None:
    assert [stage.sampler for stage in default_stages(24, sampler="random")] == ["qmc", "random", "random"]


def test_no_trials_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one trial, but got 0"):
        default_stages(0)


@pytest.mark.parametrize(("epochs", "rungs"), [(52, (4, 12, 36)), (20, (2, 6, 18)), (5, (1, 3)), (1, ())])
def test_the_first_rung_stands_after_a_thirteenth_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert default_promotion(epochs).rungs == rungs
