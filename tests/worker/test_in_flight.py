"""How many trials a worker takes, and how many it lets the others have."""

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from caviar.attributes import OWNER, PAUSED
from caviar.spec import SearchSpec
from caviar.worker.in_flight import count_open, count_workers, trials_to_give, trials_to_take


@pytest.mark.parametrize(("trials", "expected"), [(100, 6), (1000, 32), (10, 2)])
@pytest.mark.parametrize("sampler", ["tpe", "zoom", "package.module:Class"])
def test_samplers_that_learn_have_few_trials_in_flight(sampler: str, trials: int, expected: int) -> None:
    search = SearchSpec(sampler=sampler, trials=trials, workers=2)
    assert trials_to_take(search, in_hand=0, set_aside=0, left=trials, running=0) == expected
    assert trials_to_take(search, in_hand=expected, set_aside=expected, left=trials, running=expected) == 0


@pytest.mark.parametrize(
    ("in_hand", "set_aside", "left", "running", "expected"),
    [
        (0, 0, 256, 0, 128),  # the first worker takes its share
        (0, 0, 128, 128, 128),  # and the second as much
        (0, 0, 3000, 0, 1500),
        (0, 0, 0, 40, 4),  # with empty hands it always asks: a trial may be handed back, or promoted
        (30, 10, 0, 60, 0),  # nothing is left to take
        (3, 0, 0, 60, 1),
        (10, 8, 0, 60, 2),  # most of what it has waits for others
        (60, 0, 70, 60, 5),
    ],
)
def test_others_take_their_share_of_what_has_not_ended(
    in_hand: int, set_aside: int, left: int, running: int, expected: int
) -> None:
    search = SearchSpec(sampler="random", trials=256, workers=2)
    taken = trials_to_take(search, in_hand=in_hand, set_aside=set_aside, left=left, running=running)
    assert taken == expected


@pytest.mark.parametrize(
    ("workers", "in_hand", "unbegun", "left", "running", "idle", "expected"),
    [
        (2, 40, 30, 0, 40, 0, 20),  # the other is idle
        (2, 40, 30, 0, 52, 0, 14),  # and nearly so
        (2, 40, 5, 0, 52, 0, 5),
        (2, 40, 30, 0, 60, 0, 0),
        (2, 40, 30, 20, 40, 0, 0),  # trials are left to take
        (4, 40, 30, 0, 50, 0, 28),
        (1, 40, 30, 0, 40, 0, 0),
        (1, 40, 30, 0, 40, 1, 15),  # a worker has joined
        (1, 40, 30, 15, 40, 1, 0),  # and was given some
        (2, 40, 1, 0, 80, 2, 1),
        (2, 40, 0, 0, 80, 2, 0),
        (2, 0, 0, 0, 5, 1, 0),
    ],
)
def test_a_worker_gives_of_what_has_not_begun_to_those_that_run_out(
    workers: int, in_hand: int, unbegun: int, left: int, running: int, idle: int, expected: int
) -> None:
    search = SearchSpec(sampler="random", workers=workers)
    given = trials_to_give(search, in_hand=in_hand, unbegun=unbegun, left=left, running=running, idle=idle)
    assert given == expected


def test_trials_that_nobody_has_are_counted_with_those_handed_back_but_not_with_parked_or_failed_ones() -> None:
    def trial(state: TrialState, **attributes: object) -> FrozenTrial:
        value = 0.5 if state == TrialState.COMPLETE else None
        return optuna.trial.create_trial(state=state, value=value, system_attrs=attributes)

    trials = [
        trial(TrialState.COMPLETE),
        trial(TrialState.PRUNED),
        trial(TrialState.FAIL),
        trial(TrialState.RUNNING),
        trial(TrialState.WAITING),
        trial(TrialState.WAITING, **{PAUSED: True}),
    ]
    assert count_open(trials, budget=8) == (1 + 3, 1)
    assert count_open(trials, budget=2) == (1, 1)
    assert count_open([], budget=3) == (3, 0)


def test_workers_beyond_those_of_the_study_file_are_seen_by_the_trials_that_they_have() -> None:
    def trial(state: TrialState, owner: str | None) -> FrozenTrial:
        value = 0.5 if state == TrialState.COMPLETE else None
        attributes = {} if owner is None else {OWNER: owner}
        return optuna.trial.create_trial(state=state, value=value, system_attrs=attributes)

    trials = [trial(TrialState.RUNNING, owner) for owner in ("me", "one", "one", "another", None)]
    ended = [trial(TrialState.COMPLETE, "gone"), trial(TrialState.WAITING, None)]
    assert count_workers([*trials, *ended], owner="me") == 3
    assert count_workers(ended, owner="me") == 1
