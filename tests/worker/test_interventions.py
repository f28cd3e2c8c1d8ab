"""What is asked of a running trial by hand takes effect at its next epoch, survives its worker, and is repeated."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from tests.databases import EVERY_DATABASE, expire
from tests.worker.fakes import Made, Networks

from caviar.attributes import BEST_VALUE, CHANGES, CURVES, HELD, INTERVENTIONS, WATCHED
from caviar.interventions import Request, interventions_of, was_changed
from caviar.optuna_private import id_of_trial
from caviar.storage.checkpoints import CheckpointStore
from caviar.storage.control import Answer, hold_waiting, post_request, read_standing, release_waiting
from caviar.storage.database import new_owner, open_storage
from caviar.worker import worker as worker_module

EPOCHS = 4
pytestmark = EVERY_DATABASE


@pytest.fixture(autouse=True)
def _reads_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SYNC_S", 0.0)


class Hand:
    """Asks something of trial 0 from another process' storage, before given epochs of the worker."""

    def __init__(self, made: Made, asked: Mapping[int, Request]) -> None:
        self._made = made
        self._storage = open_storage(made.storage.engine.url.render_as_string(hide_password=False), owner=new_owner())
        self._asked = asked
        self.keys: list[str] = []

    @property
    def trial_id(self) -> int:
        return id_of_trial(self._made.stored[0])

    def __call__(self, epoch: int, _lanes: Any) -> None:
        if epoch in self._asked:
            self.keys.append(post_request(self._storage, self.trial_id, self._asked[epoch]))

    @property
    def answers(self) -> list[Answer | None]:
        found = [read_standing(self._storage, self.trial_id, key) for key in self.keys]
        return [None if one is None else one.answer for one in found]


def changes(made: Made, number: int = 0) -> list[str]:
    return [str(one).partition(" (")[0] for one in interventions_of(made.stored[number].user_attrs)]


def test_a_value_that_is_set_takes_effect_at_the_next_epoch_and_is_an_event(
    made: Made, checkpoints: CheckpointStore
) -> None:
    made.search(trials=1)
    made.options = {"checkpoints": checkpoints}
    hand = Hand(made, {1: Request(action="set", values={"learning_rate": 0.5}, who="ann@lab")})
    made.work(hand)
    (trial,) = made.stored
    assert hand.answers == [Answer(done=True, epoch=2)]
    (event,) = interventions_of(trial.user_attrs)
    assert (event.name, event.new, event.epoch, event.trained, event.who) == ("learning_rate", 0.5, 2, 2, "ann@lab")
    assert event.old == pytest.approx(trial.params["learning_rate"])
    assert "→ 0.5 (ann@lab)" in trial.user_attrs[CHANGES]
    assert trial.system_attrs[WATCHED] is True
    assert trial.state == TrialState.COMPLETE


def test_what_cannot_be_done_is_answered_and_changes_nothing(made: Made, checkpoints: CheckpointStore) -> None:
    made.search(trials=1)
    made.options = {"checkpoints": checkpoints}
    hand = Hand(
        made,
        {
            0: Request(action="set", values={"learning_rate": 0.5, "dropout": 0.1}),
            1: Request(action="back", epoch=3),
            2: Request(action="epochs", epochs=1),
        },
    )
    made.work(hand)
    reasons = [answer.reason for answer in hand.answers if answer is not None]
    assert "no Dropout layer" in (reasons[0] or "")
    assert "no checkpoint after epoch 3. It can go back" in (reasons[1] or "")
    assert "has done 3 epochs, so it cannot end after 1" in (reasons[2] or "")
    assert INTERVENTIONS not in made.stored[0].user_attrs
    assert not was_changed(made.stored[0].user_attrs)


def test_epochs_are_added_and_cut(made: Made, checkpoints: CheckpointStore) -> None:
    made.search(trials=1)
    made.options = {"checkpoints": checkpoints}
    made.work(Hand(made, {1: Request(action="epochs", epochs=9)}))
    assert len(made.stored[0].user_attrs[CURVES]["val_accuracy"]) == 9
    assert changes(made) == ["epoch 2: epochs 4 → 9"]


def test_a_stopped_trial_is_complete_with_its_best_epoch_and_its_network(
    made: Made, checkpoints: CheckpointStore
) -> None:
    made.search(trials=1)
    networks = Networks()
    made.options = {"checkpoints": checkpoints, "networks": networks}
    made.work(Hand(made, {1: Request(action="stop")}))
    (trial,) = made.stored
    assert (trial.state, trial.value) == (TrialState.COMPLETE, trial.user_attrs[BEST_VALUE])
    assert len(trial.intermediate_values) == 2
    assert changes(made) == ["epoch 2: stopped and kept"]
    assert len(networks.saved) == 1


def test_a_trial_goes_back_to_a_checkpoint_and_its_curve_is_that_of_its_second_way(
    made: Made, checkpoints: CheckpointStore
) -> None:
    made.search(trials=1)
    made.options = {"checkpoints": checkpoints}
    asked = {0: Request(action="watch"), 2: Request(action="back", epoch=2), 3: Request(action="stop")}
    trainers = made.work(Hand(made, asked))
    (trial,) = made.stored
    assert sum(trainers.sizes) == 4
    assert changes(made) == ["epoch 3: back from epoch 3 to 2", "epoch 3: stopped and kept"]
    curve = trial.user_attrs[CURVES]["val_accuracy"]
    assert len(curve) == 3
    assert [trial.intermediate_values[step] for step in range(3)] == curve


def test_a_paused_trial_waits_for_its_resumption_and_the_run_ends_without_it(
    made: Made, checkpoints: CheckpointStore
) -> None:
    made.search(trials=2)
    made.options = {"checkpoints": checkpoints}
    made.work(Hand(made, {1: Request(action="pause")}))
    paused, other = made.stored
    assert (paused.state, other.state) == (TrialState.WAITING, TrialState.COMPLETE)
    assert paused.system_attrs[HELD] is True
    made.reopen()
    assert made.work().epochs == []
    assert release_waiting(made.storage, id_of_trial(paused))
    made.reopen()
    assert sum(made.work().sizes) == EPOCHS - len(paused.intermediate_values)
    assert made.states == {"COMPLETE": 2}
    assert changes(made) == ["epoch 2: paused"]
    assert not was_changed(made.stored[0].user_attrs)


def test_a_trial_that_waits_is_held_and_released_without_a_worker(made: Made) -> None:
    made.search(trials=2)
    made.study.enqueue_trial({"learning_rate": 0.1})
    (trial,) = made.stored
    assert hold_waiting(made.storage, id_of_trial(trial))
    made.work()
    assert [one.state for one in made.stored] == [TrialState.WAITING, TrialState.COMPLETE]
    release_waiting(made.storage, id_of_trial(trial))
    made.reopen()
    made.work()
    assert made.states == {"COMPLETE": 2}


def test_an_ended_trial_takes_no_request(made: Made) -> None:
    made.search(trials=1)
    made.work()
    with pytest.raises(UpdateFinishedTrialError, match="COMPLETE"):
        post_request(made.storage, id_of_trial(made.stored[0]), Request(action="stop"))


def test_another_worker_repeats_what_was_changed_when_it_was_changed(made: Made, checkpoints: CheckpointStore) -> None:
    class Killed(BaseException):
        pass

    made.search(trials=1, checkpoint_s=1000)
    made.options = {"checkpoints": checkpoints}
    hand = Hand(made, {0: Request(action="set", values={"learning_rate": 0.5}), 1: Request(action="epochs", epochs=6)})

    def die(epoch: int, lanes: Any) -> None:
        hand(epoch, lanes)
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        made.work(die)
    checkpoints.remove_all()
    expire(made.storage, id_of_trial(made.stored[0]))
    made.reopen()
    trainers = made.work()
    assert sum(trainers.sizes) == 6
    assert changes(made)[1:] == ["epoch 2: epochs 4 → 6"]
    assert made.states == {"COMPLETE": 1}


def test_a_changed_trial_is_neither_pruned_nor_learned_from(made: Made, checkpoints: CheckpointStore) -> None:
    seen: list[set[int]] = []

    class Recording(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            seen.append({other.number for other in others})
            return trial.number == 0

    made.search(trials=4)
    made.pruner = Recording()
    made.options = {"checkpoints": checkpoints}
    made.study.enqueue_trial({"learning_rate": 0.1})
    post_request(made.storage, id_of_trial(made.stored[0]), Request(action="set", values={"learning_rate": 0.5}))
    made.work()
    assert made.states == {"COMPLETE": 4}
    assert was_changed(made.stored[0].user_attrs)
    assert {1} <= seen[-1]
    assert all(0 not in numbers for numbers in seen)
