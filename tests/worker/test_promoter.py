"""Which parked trials a worker gives up."""

from typing import Any, cast

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from caviar.attributes import PAUSED
from caviar.metrics import Direction
from caviar.search.promotion import PromotionRule
from caviar.worker.promoter import Promoter


def parked(value: float) -> FrozenTrial:
    return create_trial(state=TrialState.WAITING, intermediate_values={0: value}, system_attrs={PAUSED: True})


@pytest.mark.parametrize("at_work", [TrialState.RUNNING, TrialState.WAITING])
def test_at_the_end_parked_trials_stay_while_another_trial_may_promote_them(
    at_work: TrialState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.worker.promoter.prune_parked", lambda _storage, _study_id, trial_ids: list(trial_ids))
    study = optuna.create_study(direction="maximize")
    study.add_trials([parked(0.1), parked(0.2)])
    promoter = Promoter(study, cast("Any", None), PromotionRule(max_epochs=4), direction=Direction.MAXIMIZE)
    assert promoter.give_up() == []
    study.add_trial(create_trial(state=at_work, intermediate_values={}))
    assert promoter.give_up(closing=True) == []
    other = optuna.create_study(direction="maximize")
    other.add_trials([parked(0.1), parked(0.2), create_trial(state=TrialState.FAIL)])
    promoter = Promoter(other, cast("Any", None), PromotionRule(max_epochs=4), direction=Direction.MAXIMIZE)
    assert len(promoter.give_up(closing=True)) == 2


def test_parked_trials_beyond_the_limit_end_together_the_least_hopeful_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.worker.promoter.prune_parked", lambda _storage, _study_id, trial_ids: list(trial_ids))
    study = optuna.create_study(direction="maximize")
    study.add_trials([parked(number / 100) for number in range(40)])
    promoter = Promoter(study, cast("Any", None), PromotionRule(max_epochs=4), direction=Direction.MAXIMIZE)
    assert promoter.give_up() == [], "eight are too few"
    study.add_trial(parked(0.5))
    assert promoter.give_up() == list(range(9))
