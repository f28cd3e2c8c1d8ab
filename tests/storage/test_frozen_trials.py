import math

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from caviar.storage.leased_storage import LeasedStorage


@pytest.fixture
def varied(storage: LeasedStorage) -> optuna.Study:
    """A study with a trial of every kind, beside another study."""
    optuna.create_study(storage=storage, study_name="another").enqueue_trial({"x": 0.0})
    study = optuna.create_study(storage=storage, study_name="varied")
    for value in (1.5, math.inf, -math.inf):
        trial = study.ask()
        trial.suggest_float("x", 1e-3, 1.0, log=True)
        trial.suggest_categorical("c", ["a", None, True, 2])
        trial.suggest_int("n", 1, 9)
        for step, reported in enumerate((0.5, math.nan, math.inf, -math.inf)):
            trial.report(reported, step)
        trial.set_user_attr("curves", {"loss": [1.0, None]})
        study.tell(trial, value)
    study.tell(study.ask(), state=TrialState.PRUNED)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.5})
    study.ask()
    study.enqueue_trial({"x": 0.25}, user_attrs={"why": "a hunch"})
    return study


@pytest.mark.parametrize("newer_than", [-1, 3, 100])
@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE, TrialState.WAITING)])
def test_trials_are_read_as_optuna_reads_them(
    states: tuple[TrialState, ...] | None, newer_than: int, varied: optuna.Study, storage: LeasedStorage
) -> None:
    for named in (set[int](), {2, 5}):
        read = storage._get_trials(varied._study_id, states, named, newer_than)
        expected = RDBStorage._get_trials(storage, varied._study_id, states, named, newer_than)
        assert len(read) > 0 or newer_than == 100
        assert repr(read) == repr(expected)  # nan is not nan


def test_of_thousands_of_named_trials_none_is_missing(varied: optuna.Study, storage: LeasedStorage) -> None:
    assert len(storage._get_trials(varied._study_id, None, set(range(2, 40_000)), 3)) == 7


def test_a_study_that_is_not_there_is_refused(storage: LeasedStorage) -> None:
    with pytest.raises(KeyError, match="17"):
        storage._get_trials(17, None, set(), -1)
