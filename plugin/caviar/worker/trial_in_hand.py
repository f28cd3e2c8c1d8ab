"""One trial that a worker has in hand: how a ticket becomes one, and its checkpoint."""

import dataclasses
import enum
import functools
import logging
from typing import TYPE_CHECKING

import optuna

from ..attributes import INTERVENTIONS, WATCHED
from ..interventions import interventions_of
from ..packing.cost_model import LaneShape
from ..storage.buffered_storage import BufferedStorage
from ..storage.checkpoints import KEPT, KEPT_WATCHED, Checkpoint, CheckpointStore
from ..storage.remote import StoreRestsError
from ..storage.tickets import Ticket
from .learned_view import as_learned_from
from .objective import LaneSpec
from .trial_run import TrialRun
from .worker_setup import WorkerSetup

if TYPE_CHECKING:
    from ..training import LaneState

_logger = logging.getLogger(__name__)

#: Prefixes of a checkpoint's arrays: the lane's state as it is, and as it was at the best epoch, if that was kept.
_LANE, _BEST = "lane/", "best/"


class Stage(enum.Enum):
    """How far a trial in hand has come. A trial that has ended or is parked is no longer in hand."""

    DRAWN = "drawn"  # only this worker knows its hyperparameters
    ANNOUNCED = "announced"  # it trains now or soon: its worker's death would be blamed on it
    RUNNING = "running"
    SET_ASIDE = "set aside"  # it has run, and waits for a place


@dataclasses.dataclass(kw_only=True, eq=False)
class TrialInHand:
    """One trial in hand."""

    ticket: Ticket  # the right to run it
    run: TrialRun  # its curves
    lane: LaneSpec  # what it trains
    stage: Stage = Stage.DRAWN  # how far it has come
    state: "LaneState | None" = None  # what its lane goes on from: a checkpoint's, or what another trainer left
    best_state: "LaneState | None" = None  # its state at its best epoch, if the trial was the study's best then
    saved_epochs: int = 0  # epochs in its last checkpoint
    max_epochs: int  # epochs of its whole training
    watched: bool = False  # its curves are stored, and a checkpoint is kept, after every epoch
    suspected: bool = False  # it trains alone: its worker died or its fleet failed, and it may be the cause

    @property
    def epochs(self) -> int:
        """How many epochs it has done."""
        return self.run.epochs

    @property
    def shape(self) -> LaneShape:
        """Its network and training, by which its fleet is planned."""
        return self.lane.shape

    @property
    def has_begun(self) -> bool:
        """Whether this worker has trained it."""
        return self.stage in (Stage.RUNNING, Stage.SET_ASIDE)

    def save(self, checkpoints: CheckpointStore, state: "LaneState") -> None:
        """Checkpoint it with its lane's state. A full disk only causes a warning, for the trial can train on.

        So does a store that is away: one warning, until it is asked again.
        """
        arrays = {_LANE + key: value for key, value in state.items()}
        arrays |= {_BEST + key: value for key, value in (self.best_state or {}).items()}
        self.saved_epochs = self.epochs
        try:
            checkpoint = Checkpoint(epochs=self.epochs, state=arrays, notes=self.run.notes())
            checkpoints.save(self.ticket.number, checkpoint, keep=KEPT_WATCHED if self.watched else KEPT)
        except StoreRestsError as error:
            _logger.debug("No checkpoint of trial %d: %s", self.ticket.number, error)
        except OSError as error:
            _logger.warning("Could not write a checkpoint of trial %d, which trains on: %s", self.ticket.number, error)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.run.restore(checkpoint.notes)
        self.state = self.state_of(checkpoint)
        self.saved_epochs = self.epochs

    def state_of(self, checkpoint: Checkpoint) -> "LaneState":
        """Return the lane's state in a checkpoint, and take the best epoch's from it."""
        self.best_state = _part(checkpoint, _BEST) or None
        return _part(checkpoint, _LANE)


def draw_trial(ticket: Ticket, setup: WorkerSetup, buffer: BufferedStorage) -> TrialInHand:
    """Draw a claimed trial's hyperparameters, or read those that it has; restore its checkpoint if it ran before."""
    objective = setup.objective
    # Each trial needs a study of its own: a study remembers the trials that it has read until one of them is told.
    seen = buffer if setup.spec.search.babysat == "learn" else as_learned_from(buffer)
    study = optuna.Study(setup.study.study_name, storage=seen, pruner=setup.pruner)
    study.sampler = setup.make_sampler(ticket.origin, study)
    trial = optuna.Trial(study, ticket.trial_id)
    lane = objective.draw(trial, origin=ticket.origin)
    stored = buffer.get_trial(ticket.trial_id)
    drawn = TrialInHand(
        ticket=ticket,
        run=objective.make_run(
            trial,
            reported=frozenset(stored.intermediate_values if ticket.resumed else ()),
            interventions=interventions_of(stored.user_attrs),
            rewrite=functools.partial(buffer.set_trial_intermediate_value, ticket.trial_id),
        ),
        lane=lane,
        max_epochs=objective.epochs,
        watched=WATCHED in stored.system_attrs or INTERVENTIONS in stored.user_attrs,
        suspected=ticket.deaths > 0,
    )
    checkpoint = setup.checkpoints.load(ticket.number) if ticket.resumed else None
    if checkpoint is not None:
        drawn.restore(checkpoint)
    return drawn


def _part(checkpoint: Checkpoint, prefix: str) -> "LaneState":
    return {key.removeprefix(prefix): array for key, array in checkpoint.state.items() if key.startswith(prefix)}
