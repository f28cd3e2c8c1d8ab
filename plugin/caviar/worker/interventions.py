"""What is asked of a worker's trials by hand, and takes effect between two of their epochs."""

import logging
from collections.abc import Mapping
from typing import Final, final

from ..attributes import WATCHED
from ..config import MAX_EPOCHS
from ..errors import SpaceError, SpecError
from ..interventions import Intervention, LiveHyperparameter, Request, in_words
from ..storage.buffered_storage import BufferedStorage
from ..storage.checkpoints import CheckpointStore
from ..storage.control import Answer
from .crew import Crew
from .trial_in_hand import TrialInHand
from .trial_run import Decision

_logger = logging.getLogger(__name__)

#: What ends a trial's time in its lane.
_LEAVES: Final = {"pause": Decision.HOLD, "stop": Decision.COMPLETE}


@final
class Interventions:
    """Carries out requests, and repeats those that an earlier worker carried out.

    Args:
        crew: Trains the trials.
        buffer: Knows the requests, and takes the answers.
        checkpoints: Where a trial goes back to.
    """

    def __init__(self, crew: Crew, buffer: BufferedStorage, checkpoints: CheckpointStore) -> None:
        self._crew = crew
        self._buffer = buffer
        self._checkpoints = checkpoints

    def carry_out(self) -> dict[TrialInHand, Decision | SpecError]:
        """Do what is due for the running trials, before their next epoch.

        Returns:
            The trials that leave their lanes, and how: by a decision, or by an error if what was changed before cannot
            be changed again.
        """
        leaving: dict[TrialInHand, Decision | SpecError] = {}
        for trial in self._crew.running:
            try:
                decision = self._repeat(trial) or (self._answer(trial) if trial.run.has_caught_up else None)
            except SpecError as error:
                leaving[trial] = error
            else:
                if decision is not None:
                    leaving[trial] = decision
        return leaving

    def _repeat(self, trial: TrialInHand) -> Decision | None:
        """Let an earlier worker's interventions take effect where they did then."""
        while (due := trial.run.due) is not None:
            trial.watched = True
            if due.action == "set":
                assert due.name is not None
                assert due.new is not None
                self._crew.set_hyperparameter(trial, _live(due.name), due.new)
            elif due.action == "epochs":
                trial.max_epochs = int(due.new or 0)
            elif due.action == "back":
                self._go_back(trial, int(due.new or 0))
            trial.run.apply()
            if due.action == "stop":
                return Decision.COMPLETE
        return None

    def _answer(self, trial: TrialInHand) -> Decision | None:
        """Carry out what is asked of a trial, in order, until it leaves its lane."""
        trial_id = trial.ticket.trial_id
        for key, request in self._buffer.requests(trial_id).items():
            if not trial.watched:
                trial.watched = True
                self._buffer.set_trial_system_attr(trial_id, WATCHED, value=True)
                self._save(trial)
            try:
                self._do(trial, request)
            except (SpecError, SpaceError, ValueError) as error:
                _logger.warning("Trial %d: %s was refused: %s", trial.ticket.number, request.action, error)
                self._buffer.answer(trial_id, key, request, Answer(done=False, reason=str(error)))
                continue
            self._buffer.answer(trial_id, key, request, Answer(done=True, epoch=trial.epochs))
            if request.action in _LEAVES:
                return _LEAVES[request.action]
        return None

    def _do(self, trial: TrialInHand, request: Request) -> None:
        """Carry out one request, and note what changed; what is refused changes nothing.

        Raises:
            SpecError: If it cannot be done to this trial, and what can.
        """
        epoch, trained = trial.epochs, trial.run.trained

        def note(name: str | None = None, old: float | None = None, new: float | None = None) -> None:
            trial.run.apply(
                Intervention(
                    action=request.action,
                    epoch=epoch,
                    trained=trained,
                    name=name,
                    old=old,
                    new=new,
                    who=request.who,
                    at=request.at,
                )
            )

        if request.action == "set":
            for name, before in self._set(trial, request.values).items():
                note(name, before, request.values[name])
        elif request.action == "epochs":
            assert request.epochs is not None
            _check_epochs(trial, request.epochs)
            before, trial.max_epochs = trial.max_epochs, request.epochs
            note(old=before, new=request.epochs)
        elif request.action == "back":
            assert request.epoch is not None
            self._check_back(trial, request.epoch)
            note(old=epoch, new=request.epoch)
            self._go_back(trial, request.epoch)
        elif request.action == "stop":
            if not epoch:
                raise SpecError("The trial has no epoch yet, so there is nothing to keep. Pause it, or wait for one.")
            note()
        elif request.action == "pause":
            note()

    def _set(self, trial: TrialInHand, values: Mapping[str, float]) -> dict[str, float]:
        """Set hyperparameters, all or none, and return what they were."""
        before: dict[str, float] = {}
        try:
            for name, value in values.items():
                before[name] = self._crew.set_hyperparameter(trial, _live(name), value)
        except (SpecError, SpaceError):
            for name, value in before.items():
                self._crew.set_hyperparameter(trial, _live(name), value)
            raise
        return before

    def _check_back(self, trial: TrialInHand, epoch: int) -> None:
        kept = [done for done in self._checkpoints.epochs(trial.ticket.number) if done < trial.epochs]
        if epoch not in kept:
            there = f"It can go back to after epoch {in_words(kept)}" if kept else "There is none yet"
            raise SpecError(f"Trial {trial.ticket.number} has no checkpoint after epoch {epoch}. {there}.")

    def _go_back(self, trial: TrialInHand, epoch: int) -> None:
        checkpoint = self._checkpoints.load(trial.ticket.number, epochs=epoch)
        if checkpoint is None or checkpoint.epochs != epoch:
            raise SpecError(f"The checkpoint after epoch {epoch} is gone or torn.")
        self._crew.load_state(trial, trial.state_of(checkpoint))
        trial.run.step_back(checkpoint.notes)
        self._save(trial)

    def _save(self, trial: TrialInHand) -> None:
        trial.save(self._checkpoints, self._crew.lane_state(trial))


def _live(name: str) -> LiveHyperparameter:
    return name  # type: ignore[return-value]  # requests are checked


def _check_epochs(trial: TrialInHand, epochs: int) -> None:
    """Raise SpecError if a trial cannot train so many epochs in all."""
    training = trial.lane.shape.training
    if not max(trial.epochs, 1) <= epochs <= MAX_EPOCHS:
        raise SpecError(f"The trial has done {trial.epochs} epochs, so it cannot end after {epochs}.")
    if training.decay == "cosine" and epochs > training.epochs:
        raise SpecError(
            f"Cosine decay takes the learning rate to 0 at epoch {training.epochs}, so epochs beyond it would learn "
            "nothing. Begin a trial with another decay."
        )
