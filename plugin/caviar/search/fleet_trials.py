"""From a ticket to a trial that a fleet's worker has in hand."""

import optuna

from ..storage.buffered_storage import BufferedStorage
from ..storage.tickets import Ticket
from .best_network import BestEpochKeeper, Standing
from .fleet_crew import FleetTrial
from .trial_checkpoint import load_trial
from .trial_run import TrialRun
from .worker_setup import WorkerSetup


def draw_trial(ticket: Ticket, setup: WorkerSetup, buffer: BufferedStorage, *, to_beat: Standing | None) -> FleetTrial:
    """Draw a claimed trial's hyperparameters, or read those that it has, with what it reached before.

    Args:
        ticket: Of a trial that this worker owns.
        setup: The worker's.
        buffer: The study in memory.
        to_beat: Where the study's best trial stands, or None.

    Raises:
        Exception: Whatever a sampler raises.
    """
    objective = setup.objective
    # A study of its own for each: a study remembers the trials that it has read until one of them is told.
    sampler = setup.make_sampler(ticket.origin)
    study = optuna.Study(setup.study.study_name, storage=buffer, sampler=sampler, pruner=setup.study.pruner)
    trial = optuna.Trial(study, ticket.trial_id)
    lane = objective.make_lane(trial, origin=ticket.origin)
    reported = buffer.get_trial(ticket.trial_id).intermediate_values if ticket.resumed else {}
    run = TrialRun(trial, metric=objective.metric, n_classes=objective.dataset.n_classes, reported=frozenset(reported))
    keeper = BestEpochKeeper(to_beat, number=ticket.number, maximize=objective.direction == "maximize")
    drawn = FleetTrial(ticket=ticket, trial=trial, run=run, lane=lane, keeper=keeper, alone=ticket.deaths > 0)
    saved = load_trial(setup.checkpoints, ticket)
    if saved is not None:
        run.restore(saved.notes)
        drawn.state, keeper.state = saved.lane, saved.best
    return drawn
