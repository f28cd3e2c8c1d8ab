from typing import Any, cast

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from caviar.attributes import PARENT_TRIAL, PAUSED
from caviar.errors import SpecError
from caviar.metrics import Direction
from caviar.search.promotion import PromotionRule
from caviar.search.stages import (
    MAX_STAGES,
    ZoomPlan,
    counts_in_stage,
    default_promotion,
    default_zoom,
    keep_stages,
    plan_of_study,
    shared_begins,
)
from caviar.search.zoom_sampler import left_outside
from caviar.space import parse_space
from caviar.spec import SearchSpec
from caviar.worker.promoter import Promoter


def sizes(begins: tuple[int, ...], trials: int) -> list[int]:
    plan = ZoomPlan(begins=begins)
    return [sum(plan.stage_of(number) == stage for number in range(trials)) for stage in range(len(begins) + 1)]


@given(st.integers(1, 2_000), st.none() | st.integers(1, 9))
def test_the_first_stage_has_twice_what_each_other_one_has(trials: int, n_stages: int | None) -> None:
    shares = sizes(shared_begins(trials, n_stages=n_stages), trials)
    assert sum(shares) == trials
    assert all(share >= 1 for share in shares)
    assert len(shares) == 1 or all(abs(shares[0] - 2 * share) <= 3 for share in shares[1:])
    assert 1 <= len(shares) <= (n_stages or MAX_STAGES)


def test_a_small_search_has_fewer_stages_and_what_comes_beyond_the_budget_belongs_to_the_last() -> None:
    assert [len(shared_begins(trials)) for trials in (1, 15, 16, 23, 24, 1000)] == [0, 0, 1, 1, 2, 2]
    assert ZoomPlan(begins=shared_begins(24)).stage_of(10_000) == 2


def test_no_trials_and_no_stages_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one trial, but got 0"):
        shared_begins(0)
    with pytest.raises(SpecError, match="at least one stage, but got 0"):
        shared_begins(10, n_stages=0)


def kept(study: optuna.Study, trials: int) -> tuple[int, ...]:
    search = SearchSpec(trials=trials)
    keep_stages(study, search)
    plan = plan_of_study(study, search)
    assert plan is not None
    return plan.begins


def test_a_larger_budget_moves_no_stage_of_what_was_drawn() -> None:
    study = optuna.create_study()
    assert kept(study, 50) == (25, 37)
    study.add_trials([create_trial(value=0.0)] * 20)
    assert kept(study, 50) == (25, 37)
    assert kept(study, 40) == (25, 37)
    study.add_trials([create_trial(value=0.0)] * 30)
    assert kept(study, 60) == (25, 37)
    assert kept(study, 200) == (25, 37, 100, 150)


def test_failed_trials_use_up_numbers_and_no_stage() -> None:
    plan = ZoomPlan(begins=(4, 6))
    failed, ended = create_trial(state=TrialState.FAIL), create_trial(value=0.0)
    study = optuna.create_study()
    study.add_trials([failed] * 10)
    assert plan.among(study.trials).begins == (14, 16)
    study.add_trials([ended] * 3)
    study.add_trial(failed)
    assert [plan.among(study.trials).stage_of(number) for number in (12, 14, 15, 16)] == [0, 0, 1, 1]
    study.add_trials([ended] * 2)
    assert plan.among(study.trials).begins == (15, 17)
    assert plan.among([]) == plan.among(study.trials[:0]) == plan


def test_a_larger_budget_counts_the_trials_that_did_not_fail() -> None:
    study = optuna.create_study()
    assert kept(study, 50) == (25, 37)
    study.add_trials([create_trial(state=TrialState.FAIL)] * 30)
    study.add_trials([create_trial(value=0.0)] * 20)
    assert kept(study, 60) == (30, 45)


def test_copies_from_a_wider_study_belong_to_the_first_stage() -> None:
    study = optuna.create_study()
    study.add_trials([create_trial(value=0.0, user_attrs={PARENT_TRIAL: number}) for number in range(10)])
    assert kept(study, 40) == (25, 32)


def test_another_sampler_keeps_no_stages() -> None:
    study = optuna.create_study()
    keep_stages(study, SearchSpec(sampler="random"))
    assert study.user_attrs == {}
    assert plan_of_study(study, SearchSpec(sampler="random")) is None


def trial(state: TrialState, values: list[float], **more: Any) -> optuna.trial.FrozenTrial:
    steps = dict(enumerate(values))
    return create_trial(
        state=state, value=values[-1] if state.is_finished() else None, intermediate_values=steps, **more
    )


def test_a_stage_judges_its_own_trials_and_what_was_left_unfinished() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([trial(TrialState.PRUNED, [0.1])] * 3)
    paused = trial(TrialState.WAITING, [0.3], system_attrs={PAUSED: True})
    plan = ZoomPlan(begins=(3,))
    storage = cast("Any", None)  # nothing is claimed here
    rule = PromotionRule(max_epochs=9)
    running = study.ask()
    running.report(0.2, 0)
    assert Promoter(study, storage, rule, direction=Direction.MAXIMIZE).to_park({3: 1}) == set()
    promoter = Promoter(study, storage, rule, direction=Direction.MAXIMIZE, plan=plan)
    assert promoter.to_park({3: 1}) == {3}
    study.add_trial(paused)
    assert [counts_in_stage(one, plan, stage=1) for one in study.trials] == [False] * 3 + [True] * 2
    assert counts_in_stage(trial(TrialState.RUNNING, []), plan, stage=1)


def test_a_new_stage_forgets_what_ended_before_it() -> None:
    study = optuna.create_study(direction="maximize")
    promoter = Promoter(
        study,
        cast("Any", None),
        PromotionRule(max_epochs=9),
        direction=Direction.MAXIMIZE,
        plan=ZoomPlan(begins=(4,)),
    )
    for value in (0.1, 0.1, 0.1):
        first = study.ask()
        first.report(value, 0)
        study.tell(first, state=TrialState.PRUNED)
    running = study.ask()
    running.report(0.2, 0)
    assert promoter.to_park({3: 1}) == set()
    later = study.ask()
    later.report(0.3, 0)
    assert promoter.to_park({4: 1}) == {4}


@pytest.mark.parametrize(("epochs", "rungs"), [(52, (4, 12, 36)), (20, (2, 6, 18)), (5, (1, 3)), (1, ())])
def test_the_first_rung_stands_after_a_thirteenth_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert default_promotion(epochs).rungs == rungs


def test_stages_zoom_around_few_trials() -> None:
    assert default_zoom().max_best == 20


def test_what_was_paused_outside_the_ranges_of_a_new_stage_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    space = parse_space({"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}})

    def at(rate: float, value: float, **more: Any) -> optuna.trial.FrozenTrial:
        state = TrialState.WAITING if more else TrialState.PRUNED
        params = {"params": {"learning_rate": rate}, "distributions": space.distributions()}
        return trial(state, [value], **params, **more)

    study = optuna.create_study(direction="maximize")
    study.add_trials([at(10 ** -(number / 8), 1 - abs(number - 8) / 40) for number in range(32)])
    study.add_trials([at(rate, 0.1, system_attrs={PAUSED: True}) for rate in (2e-4, 0.1)])
    plan = ZoomPlan(begins=(34,))
    assert left_outside(space, study.trials, plan, Direction.MAXIMIZE, stage=1) == {32}
    study.add_trials([trial(TrialState.PRUNED, [0.0])])
    promoter = Promoter(
        study, cast("Any", None), PromotionRule(max_epochs=9), direction=Direction.MAXIMIZE, space=space, plan=plan
    )
    monkeypatch.setattr("caviar.worker.promoter.prune_parked", lambda _storage, _study_id, trial_ids: list(trial_ids))
    assert promoter.give_up() == [study.trials[32]._trial_id]
