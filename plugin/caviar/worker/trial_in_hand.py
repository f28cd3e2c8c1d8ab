"""One trial that a worker has in hand, and how a ticket becomes one."""

import dataclasses
import enum

import optuna

from ..storage.buffered_storage import BufferedStorage
from ..storage.tickets import Ticket
from .best_network import BestEpochKeeper, State, best_standing
from .objective import LaneSpec
from .trial_checkpoint import load_trial
from .trial_run import TrialRun
from .worker_setup import WorkerSetup


class Stage(enum.Enum):
    """How far a trial in hand has come. A trial that ends, or is parked, is in hand no more."""

    DRAWN = "drawn"  # only this worker knows its hyperparameters
    ANNOUNCED = "announced"  # it trains now or soon: its worker's death would be blamed on it
    RUNNING = "running"
    SET_ASIDE = "set aside"  # it has run, and waits for a place


@dataclasses.dataclass(kw_only=True, eq=False)
class TrialInHand:
    """One trial in hand.

    Attributes:
        ticket: The right to run it.
        run: Its curves.
        lane: What it trains.
        keeper: Keeps its best epoch.
        stage: How far it has come.
        state: What its lane goes on from: a checkpoint, or where another trainer left it.
        saved_epochs: Epochs that its last checkpoint holds.
        suspected: Whether it trains by itself: its worker has died, or its fleet failed, and it may be to blame.
    """

    ticket: Ticket
    run: TrialRun
    lane: LaneSpec
    keeper: BestEpochKeeper
    stage: Stage = Stage.DRAWN
    state: State | None = None
    saved_epochs: int = 0
    suspected: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs it has done."""
        return self.run.epochs

    @property
    def has_begun(self) -> bool:
        """Whether this worker has trained it."""
        return self.stage in (Stage.RUNNING, Stage.SET_ASIDE)


def draw_trial(ticket: Ticket, setup: WorkerSetup, buffer: BufferedStorage) -> TrialInHand:
    """Draw a claimed trial's hyperparameters, or read those that it has, with what it reached before.

    Args:
        ticket: Of a trial that this worker owns.
        setup: The worker's.
        buffer: The study in memory.

    Raises:
        Exception: Whatever a sampler raises.
    """
    objective = setup.objective
    # A study of its own for each: a study remembers the trials that it has read until one of them is told.
    study = optuna.Study(setup.study.study_name, storage=buffer, pruner=setup.study.pruner)
    study.sampler = setup.make_sampler(ticket.origin, study)
    trial = optuna.Trial(study, ticket.trial_id)
    lane = objective.draw(trial, origin=ticket.origin)
    reported = buffer.get_trial(ticket.trial_id).intermediate_values if ticket.resumed else {}
    drawn = TrialInHand(
        ticket=ticket,
        run=objective.make_run(trial, reported=frozenset(reported)),
        lane=lane,
        keeper=BestEpochKeeper(best_standing(study), number=ticket.number, maximize=objective.direction == "maximize"),
        suspected=ticket.deaths > 0,
    )
    saved = load_trial(setup.checkpoints, ticket)
    if saved is not None:
        drawn.run.restore(saved.notes)
        drawn.state, drawn.keeper.state = saved.lane, saved.best
        drawn.saved_epochs = drawn.epochs
    return drawn
