"""Asynchronous successive halving with promotion: who trains on, who pauses, who is promoted, who is given up."""

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from caviar.attributes import PARENT_TRIAL, PAUSED
from caviar.errors import SpecError
from caviar.metrics import Direction
from caviar.search.promotion import PromotionRule, Rungs, TrialProgress, counts_at_rungs, progress_of

RULE = PromotionRule(max_epochs=10, min_epochs=1, reduction=3)


def show(rungs: Rungs, number: int, curve: list[float], state: str = "paused", **more: bool) -> None:
    rungs.show(TrialProgress(number=number, curve=curve, state=state, **more))  # type: ignore[arg-type]  # a Literal


def test_rungs_are_powers_of_the_reduction_below_a_whole_training() -> None:
    assert RULE.rungs == (1, 3, 9)
    assert PromotionRule(max_epochs=52, min_epochs=4, reduction=4).rungs == (4, 16)
    assert PromotionRule(max_epochs=4, min_epochs=4).rungs == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"min_epochs": 11}, "at most the 10 epochs"), ({"min_epochs": 0}, "min_epochs"), ({"reduction": 1}, "reduction")],
)
def test_bad_rules_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        PromotionRule(max_epochs=10, **settings)


def test_first_arrivals_pause_and_the_best_of_three_is_promoted() -> None:
    rungs = Rungs(RULE)
    for number, value in enumerate([0.5, 0.9]):
        show(rungs, number, [value], "running")
        assert not rungs.goes_on(number)
        show(rungs, number, [value])
        assert rungs.next_promotion() is None
    show(rungs, 2, [0.1], "running")
    assert not rungs.goes_on(2)
    show(rungs, 2, [0.1])
    assert rungs.next_promotion() == 1
    show(rungs, 1, [0.9], "running")
    assert rungs.next_promotion() is None, "a trial is promoted once"


def test_a_trial_among_the_best_third_trains_on_at_once_and_between_rungs_every_one_does() -> None:
    rungs = Rungs(RULE)
    show(rungs, 0, [0.5])
    show(rungs, 1, [0.4])
    show(rungs, 2, [0.9], "running")
    assert rungs.goes_on(2)
    show(rungs, 2, [0.9, 0.1], "running")
    assert rungs.goes_on(2)
    show(rungs, 2, [0.9, 0.1, 0.2], "running")
    assert not rungs.goes_on(2), "the only one at the second rung waits for others"
    show(rungs, 2, [0.9] * 10, "running")
    assert not rungs.goes_on(2), "a whole training is complete"


def test_higher_rungs_are_promoted_first() -> None:
    rungs = Rungs(RULE)
    for number in range(3):
        show(rungs, number, [0.5, 0.5, 0.5 + number / 10])
    for number in range(3, 12):
        show(rungs, number, [0.9])
    assert rungs.next_promotion() == 2


def test_losses_are_minimised() -> None:
    rungs = Rungs(RULE, direction=Direction.MINIMIZE)
    for number, loss in enumerate([2.0, 0.5, 1.0]):
        show(rungs, number, [loss])
    assert rungs.next_promotion() == 1


def test_a_trial_is_judged_by_its_best_epoch_so_far() -> None:
    rungs = Rungs(RULE)
    show(rungs, 0, [0.3, 0.9, 0.2])
    show(rungs, 1, [0.3, 0.5, 0.6])
    show(rungs, 2, [0.3, 0.4, 0.8])
    assert rungs.next_promotion() == 0


def test_diverged_trials_are_never_promoted_but_count_as_the_worst() -> None:
    rungs = Rungs(RULE)
    show(rungs, 0, [0.9], diverged=True)
    show(rungs, 1, [math.nan])
    assert rungs.next_promotion(closing=True) is None
    show(rungs, 2, [0.1], "running")
    assert rungs.goes_on(2), "one of three goes on, and this one is better than what broke down"
    assert 0 in rungs.surplus()


def test_a_trial_that_stopped_early_keeps_its_place_at_higher_rungs() -> None:
    rungs = Rungs(RULE)
    show(rungs, 0, [0.9, 0.9], "ended", stopped_early=True)
    for number in (1, 2):
        show(rungs, number, [0.5, 0.5, 0.5])
    assert rungs.next_promotion() is None, "the best at the second rung has ended, and the others are not among them"


def test_closing_sends_on_the_best_of_every_rung_so_that_one_trial_is_trained_whole() -> None:
    rungs = Rungs(RULE)
    curves = {number: [number / 10] * 1 for number in range(2)}
    for number, curve in curves.items():
        show(rungs, number, curve)
    lengths = []
    while (chosen := rungs.next_promotion(closing=True)) is not None:
        following = next(epochs for epochs in (*RULE.rungs, RULE.max_epochs) if epochs > len(curves[chosen]))
        curves[chosen] = [chosen / 10] * following
        lengths.append(following)
        show(rungs, chosen, curves[chosen], "ended" if following == RULE.max_epochs else "paused")
    assert lengths == [3, 9, 10]
    assert len(curves[1]) == 10
    assert rungs.surplus(max_parked=0) == [0], "the budget is spent: what is still paused is told PRUNED"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_promoted_are_the_best_and_the_parked_are_those_promoted_soonest(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=40))
    rungs = Rungs(RULE)
    for number, value in enumerate(values):
        show(rungs, number, [value])
    promoted = []
    while (chosen := rungs.next_promotion()) is not None:
        promoted.append(chosen)
        show(rungs, chosen, [values[chosen]], "running")
    ranked = sorted(range(len(values)), key=lambda number: (-values[number], number))
    assert promoted == ranked[: len(values) // 3]
    limit = data.draw(st.integers(0, 10))
    waiting = ranked[len(promoted) :]
    assert rungs.surplus(max_parked=limit) == list(reversed(waiting[limit:]))
    for number in rungs.surplus(max_parked=limit):
        show(rungs, number, [values[number]], "ended")
    assert len(rungs.surplus(max_parked=0)) == min(limit, len(waiting))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10), st.floats(0, 1)), max_size=15), st.randoms())
def test_the_order_in_which_trials_are_shown_does_not_matter(drawn: list[tuple[int, float]], random: object) -> None:
    trials = [
        TrialProgress(number=number, curve=[value] * epochs, state="paused")
        for number, (epochs, value) in enumerate(drawn)
    ]
    mixed = [*trials]
    random.shuffle(mixed)  # type: ignore[attr-defined]  # hypothesis' own Random
    first, second = Rungs(RULE), Rungs(RULE)
    for trial in trials:
        first.show(trial)
    for trial in mixed:
        second.show(TrialProgress(number=trial.number, curve=trial.curve[:1], state="running"))
    for trial in mixed:
        second.show(trial)
    assert first.next_promotion() == second.next_promotion()
    assert first.surplus(max_parked=2) == second.surplus(max_parked=2)


def rungs_of(trials: list[optuna.trial.FrozenTrial]) -> Rungs:
    rungs = Rungs(RULE)
    for trial in trials:
        if counts_at_rungs(trial):
            rungs.show(progress_of(trial, max_epochs=RULE.max_epochs))
    return rungs


def test_stored_trials_are_read_with_their_marks() -> None:
    def stored(state: TrialState, values: list[float], **more: object) -> optuna.trial.FrozenTrial:
        steps = dict(enumerate(values))
        final = max(values) if state == TrialState.COMPLETE else None
        return create_trial(state=state, value=final, intermediate_values=steps, **more)  # type: ignore[arg-type]

    paused = stored(TrialState.WAITING, [0.5], system_attrs={PAUSED: True})
    assert progress_of(paused, max_epochs=10).state == "paused"
    assert progress_of(stored(TrialState.WAITING, [0.5]), max_epochs=10).state == "running"
    assert progress_of(stored(TrialState.COMPLETE, [0.5, 0.6]), max_epochs=10).stopped_early
    assert not progress_of(stored(TrialState.COMPLETE, [0.5] * 10), max_epochs=10).stopped_early
    assert progress_of(stored(TrialState.PRUNED, [0.5], user_attrs={"diverged": True}), max_epochs=10).diverged
    assert progress_of(stored(TrialState.RUNNING, []), max_epochs=10).curve == []
    study = optuna.create_study(direction="maximize")
    study.add_trials([stored(TrialState.FAIL, [0.9]), stored(TrialState.PRUNED, [0.2]), paused])
    rungs = rungs_of([*study.trials, stored(TrialState.RUNNING, [])])
    assert rungs.next_promotion(closing=True) == 2


def test_copies_from_a_wider_study_do_not_stand_at_rungs() -> None:
    copy = create_trial(state=TrialState.PRUNED, value=0.9, intermediate_values={0: 0.9}, user_attrs={PARENT_TRIAL: 7})
    own = create_trial(state=TrialState.WAITING, intermediate_values={0: 0.1}, system_attrs={PAUSED: True})
    study = optuna.create_study(direction="maximize")
    study.add_trials([copy, copy, copy, own])
    rungs = rungs_of(study.trials)
    assert rungs.surplus(max_parked=0) == [3]
    assert rungs.next_promotion() is None
    assert rungs.next_promotion(closing=True) == 3


def test_a_failed_trial_is_forgotten() -> None:
    rungs = Rungs(RULE)
    for number, value in enumerate([0.9, 0.5, 0.4]):
        show(rungs, number, [value])
    rungs.forget(0)
    rungs.forget(7)
    assert rungs.next_promotion() is None
    show(rungs, 3, [0.3])
    assert rungs.next_promotion() == 1
