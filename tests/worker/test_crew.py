"""A crew without a worker: who trains with whom, from where, and what becomes of those whose trainer fails."""

from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from tests.worker.fakes import FakeTrainers, PairPlan

from caviar import KerasObjective
from caviar.errors import SpecError
from caviar.packing.planning import Plan, SoloPlan
from caviar.storage.tickets import Ticket
from caviar.worker.crew import Crew
from caviar.worker.objective import LaneSpec
from caviar.worker.trial_in_hand import Stage, TrialInHand


@pytest.fixture
def draw(objective: KerasObjective) -> Any:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))

    def draw(n: int, **options: Any) -> list[TrialInHand]:
        drawn = []
        for _ in range(n):
            trial = study.ask()
            ticket = Ticket(trial_id=trial._trial_id, number=trial.number, origin=trial.number, resumed=False)
            lane, run = objective.draw(trial), objective.make_run(trial)
            drawn.append(TrialInHand(ticket=ticket, run=run, lane=lane, max_epochs=4, **options))
        return drawn

    return draw


def crew_of(trials: Sequence[TrialInHand], plan: Plan, trainers: FakeTrainers) -> Crew:
    crew = Crew(plan, trainers)
    crew.waiting = list(trials)
    return crew


def run_round(crew: Crew) -> list[TrialInHand]:
    """Do what a worker does in a round, and return who was announced."""
    crew.regroup()
    announced = crew.announce()
    crew.board()
    metrics = crew.run_epoch()
    for trial, values in zip(crew.running if metrics else [], metrics, strict=True):
        trial.run.record(values)
    return announced


def test_alone_one_trains_after_the_other_and_is_announced_before_it(draw: Any) -> None:
    first, second = draw(2)
    trainers = FakeTrainers()
    crew = crew_of([first, second], SoloPlan(), trainers)
    assert crew.announce() == [first]
    assert (first.stage, second.stage, trainers.n_made) == (Stage.ANNOUNCED, Stage.DRAWN, 0)
    crew.board()
    assert first.stage is Stage.RUNNING
    crew.run_epoch()
    assert run_round(crew) == []
    crew.remove([first])
    assert run_round(crew) == [second]
    assert trainers.epochs == [[first.lane], [first.lane], [second.lane]]
    assert crew.in_hand == [second]
    assert crew.most_in_hand == 1


def test_fleets_that_follow_soon_are_announced_together(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = draw(6)
    assert crew_of(trials, PairPlan(), FakeTrainers()).announce() == trials[:2]
    monkeypatch.setattr("caviar.worker.crew.ANNOUNCED_S", 100.0)
    crew = crew_of(draw(6), PairPlan(), FakeTrainers())
    assert run_round(crew) == crew.in_hand[:4]
    assert [trial.stage for trial in crew.in_hand] == [Stage.RUNNING] * 2 + [Stage.ANNOUNCED] * 2 + [Stage.DRAWN] * 2
    assert crew.unbegun == crew.in_hand[2:]


def test_survivors_wait_with_their_states_and_train_on_together(draw: Any) -> None:
    trials = draw(4)
    trainers = FakeTrainers()
    crew = crew_of(trials, PairPlan(), trainers)
    for pair in (trials[:2], trials[2:]):
        run_round(crew)
        assert crew.running == pair
        crew.remove(pair[1:])
        assert crew.running == pair[:1]
    run_round(crew)
    assert sorted(trial.ticket.number for trial in crew.running) == [0, 2]
    assert all(int(crew.lane_state(trial)["epoch"]) == 2 for trial in crew.running)
    assert trainers.sizes == [2, 2, 2]


@pytest.mark.parametrize("refills", [True, False])
def test_dear_survivors_train_on_and_others_take_the_free_places(draw: Any, refills: bool) -> None:
    trials = draw(4)
    trainers = FakeTrainers()
    crew = crew_of(trials, PairPlan(regroups=False, refills=refills), trainers)
    run_round(crew)
    crew.remove(trials[:1])
    assert run_round(crew) == (trials[2:3] if refills else [])
    assert crew.running == (trials[1:3] if refills else trials[1:2])
    epochs = [int(crew.lane_state(trial)["epoch"]) for trial in crew.running]
    assert epochs == ([2, 1] if refills else [2])


def test_a_fleet_that_fails_is_disbanded_and_each_goes_on_alone_from_where_it_is(draw: Any) -> None:
    trials = draw(4)

    def fail(epoch: int, _: Sequence[LaneSpec]) -> None:
        if epoch == 1:
            raise RuntimeError("out of memory")

    trainers = FakeTrainers(fail)
    crew = crew_of(trials, PairPlan(), trainers)
    run_round(crew)
    run_round(crew)
    assert crew.running == []
    assert [trial.suspected for trial in trials] == [True, True, False, False]
    run_round(crew)
    assert crew.running == trials[:1]
    assert int(crew.lane_state(trials[0])["epoch"]) == 2
    assert trainers.sizes == [2, 2, 1]


@pytest.mark.parametrize("where", ["made", "trained"])
def test_what_one_alone_raises_is_raised_and_so_is_what_is_wrong_with_the_study(draw: Any, where: str) -> None:
    def fail(_: int, lanes: Sequence[LaneSpec]) -> None:
        raise SpecError("no such thing") if len(lanes) > 1 else RuntimeError("out of memory")

    act = {"act" if where == "trained" else "refuse": fail}
    for plan, error in ((SoloPlan(), RuntimeError), (PairPlan(), SpecError)):
        crew = crew_of(draw(2), plan, FakeTrainers(**act))
        with pytest.raises(error):
            run_round(crew)
        crew.remove(crew.running)
        assert crew.running == []


def test_who_may_be_to_blame_trains_alone_and_first(draw: Any) -> None:
    innocent, suspects = draw(3), draw(2, suspected=True)
    trainers = FakeTrainers()
    crew = crew_of([*innocent, *suspects], PairPlan(refills=True, regroups=False), trainers)
    for suspect in suspects:
        run_round(crew)
        assert crew.running == [suspect]
        crew.remove([suspect])
    run_round(crew)
    assert crew.running == innocent[:2]


def test_who_was_lost_between_its_announcement_and_its_place_gets_none(draw: Any) -> None:
    trials = draw(2)
    crew = crew_of(trials, PairPlan(), FakeTrainers())
    crew.announce()
    crew.remove(trials[:1])
    crew.board()
    assert crew.running == trials[1:]


def test_a_trial_whose_state_does_not_fit_begins_again(draw: Any) -> None:
    stranger, trial = draw(2)
    crew = crew_of([stranger], SoloPlan(), FakeTrainers())
    run_round(crew)
    trial.state = crew.lane_state(stranger)
    trial.run.restore({"curves": {"val_accuracy": [0.5]}, "train_seconds": 1.0})
    crew.remove([stranger])
    crew.waiting = [trial]
    crew.announce()
    crew.board()
    assert trial.epochs == 0
    crew.run_epoch()
    assert int(crew.lane_state(trial)["epoch"]) == 1


def test_time_is_counted_as_compiling_where_a_program_is_new_and_as_training_else(draw: Any) -> None:
    pair = draw(2)
    crew = crew_of(pair, PairPlan(), FakeTrainers())
    run_round(crew)
    compile_s = crew.timings.compile_s
    assert compile_s > 0
    assert crew.timings.training_s == 0
    run_round(crew)
    assert crew.timings.compile_s == compile_s
    half_s = pytest.approx((compile_s + crew.timings.training_s) / 2)
    assert [trial.run.train_seconds for trial in pair] == [half_s, half_s]
    assert crew.timings.fleets == 1
