"""The trials that a worker has in hand: those that train in its fleet, and those that wait for a place."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import optuna

from ..errors import SpecError
from ..packing.cost_model import FleetWork, LaneShape
from ..packing.packing import Packer
from ..storage.tickets import Ticket
from .best_network import BestEpochKeeper, State
from .timings import Timings
from .trial_run import TrialRun

if TYPE_CHECKING:
    from ..training import FleetPrograms, FleetTrainer, Lane, Metrics

_logger = logging.getLogger(__name__)

#: Survivors of a fleet wait for others like them where an epoch of all that they would wait for takes at most so long.
#: Dearer trials train on at once: early results are worth more than full fleets.
REGROUP_S: Final = 2.0

#: How long the fleets train, in all, that are made known together.
ANNOUNCED_S: Final = 2.0


@dataclasses.dataclass(kw_only=True, eq=False)
class FleetTrial:
    """One trial in hand.

    Attributes:
        ticket: The right to run it.
        trial: Optuna's, on the buffered storage.
        run: Its curves.
        lane: What it trains.
        keeper: Keeps its best epoch.
        state: What its lane goes on from: a checkpoint, or where another fleet left it.
        known: Whether its hyperparameters are to be in the database before the next epoch: it begins now, or soon.
        begun: Whether it has had a place.
        saved_epochs: Epochs that its last checkpoint by this worker holds.
        alone: Whether it trains by itself: its worker has died, or its fleet failed, and it may be to blame.
    """

    ticket: Ticket
    trial: optuna.Trial
    run: TrialRun
    lane: "Lane"
    keeper: BestEpochKeeper
    state: State | None = None
    known: bool = False
    begun: bool = False
    saved_epochs: int = 0
    alone: bool = False

    @property
    def shape(self) -> LaneShape:
        """What the packer looks at."""
        return LaneShape(network=self.lane.network, training=self.lane.training)


class Crew:
    """One fleet at a time, of the trials that wait for a place.

    Fleets are planned for the trials that have trained least, and run one after the other. Where these are cheap, a
    fleet that pruning has thinned is broken up, and its survivors wait for those of the others: together they fill
    fleets again, and are judged against more. Where they are dear, waiting trials take the places of those that left.

    Args:
        programs: Of the process.
        packer: Decides which trials train together.
        timings: Counts the time of epochs and of planning.
        begin: Called with each trial that is about to get its first place, and with those that will soon.

    Attributes:
        waiting: The trials that wait for a place.
        running: Those that train, in the order of their lanes.
        regroups: Whether the trials last planned for are cheap: survivors wait for others like them.
    """

    def __init__(
        self, programs: "FleetPrograms", packer: Packer, timings: Timings, *, begin: Callable[[FleetTrial], None]
    ) -> None:
        self._programs = programs
        self._packer = packer
        self._timings = timings
        self._begin = begin
        self._trainer: FleetTrainer | None = None
        self._n_planned = 0
        self._planned: list[list[FleetTrial]] = []  # fleets to come
        self.regroups = False
        self.waiting: list[FleetTrial] = []
        self.running: list[FleetTrial] = []

    @property
    def in_hand(self) -> list[FleetTrial]:
        """All trials, those that train first, in the order of their lanes."""
        return [*self.running, *self.waiting]

    @property
    def set_aside(self) -> list[FleetTrial]:
        """The trials that have begun and wait for a place."""
        return [trial for trial in self.waiting if trial.begun]

    @property
    def unbegun(self) -> list[FleetTrial]:
        """The trials that have not begun: those of planned fleets, in their order, then the others."""
        planned = [trial for fleet in self._planned for trial in fleet]
        return [trial for trial in dict.fromkeys([*planned, *self.waiting]) if not trial.begun]

    @property
    def is_free(self) -> bool:
        """Whether the next fleet is yet to be planned."""
        return not self.running and not self._planned

    def regroup(self) -> None:
        """Break the fleet up where a third of it has left, its trials are cheap, and others wait to train with."""
        if self.regroups and self.waiting and 3 * len(self.running) <= 2 * self._n_planned:
            self._break_up()

    def fill(self) -> None:
        """Start a fleet where none runs, or let waiting trials take the places of those that left."""
        with self._timings.phase("sampling_s"):
            if not self.running:
                self._start()
            elif self.waiting and not self.regroups and not self.running[0].alone:
                self._refill()

    def run_epoch(self) -> "list[Metrics] | None":
        """Train all lanes for one epoch.

        Returns:
            Each running trial's metrics; None where the fleet failed and its trials wait again, each to train alone.

        Raises:
            Exception: What a fleet of one trial raised.
        """
        assert self._trainer is not None
        shapes = [trial.shape for trial in self.running]
        programs, started = self._programs, time.perf_counter()
        n_programs, n_traces = programs.n_programs, programs.n_traces
        try:
            metrics = self._trainer.run_epoch()
        except SpecError:
            raise
        except Exception as error:
            if len(self.running) == 1:
                raise
            _logger.warning("A fleet of %d trials failed, and each is tried alone: %s", len(self.running), error)
            self._disband()
            return None
        elapsed_s = time.perf_counter() - started
        is_new = programs.n_programs > n_programs
        self._timings.add("compile_s" if is_new else "training_s", elapsed_s)
        self._timings.traces += programs.n_traces - n_traces
        data = self._packer.data
        work = FleetWork.of(shapes, data, cache_bytes=self._packer.cost.cache_bytes)
        self._timings.padded_flop += float(work.training_flop)
        self._timings.flop += sum(shape.flop(data) for shape in shapes)
        for trial in self.running:
            trial.run.train_seconds += elapsed_s / len(self.running)
        return metrics

    def lane_state(self, trial: FleetTrial) -> State:
        """Return a copy of the state of a trial that has begun."""
        if trial not in self.running:
            assert trial.state is not None
            return trial.state
        assert self._trainer is not None
        return self._trainer.lane_state(self.running.index(trial))

    def keep_best(self, trial: FleetTrial) -> None:
        """Copy a running trial's state, if its last epoch is the best that the study has seen."""
        assert self._trainer is not None
        trial.keeper.after_epoch(trial.run, self._trainer, self.running.index(trial))

    def best_model(self, trial: FleetTrial) -> object:
        """Return a running trial's Keras network as it was at the epoch that its keeper holds; its lane is spent."""
        assert self._trainer is not None
        assert trial.keeper.state is not None
        lane = self.running.index(trial)
        self._trainer.load_lane_state(lane, trial.keeper.state)
        return self._trainer.lane_model(lane)

    def remove(self, trials: Iterable[FleetTrial]) -> None:
        """Let go of trials, in the fleet or waiting."""
        gone = set(trials)
        lanes = [lane for lane, trial in enumerate(self.running) if trial in gone]
        if self._trainer is not None:
            self._trainer.drop_lanes(lanes)
        self.running = [trial for trial in self.running if trial not in gone]
        self._forget(gone)
        if not self.running:
            self._close()

    def _forget(self, trials: Collection[FleetTrial]) -> None:
        """Have trials wait no more."""
        self.waiting = [trial for trial in self.waiting if trial not in trials]
        planned = ([trial for trial in fleet if trial not in trials] for fleet in self._planned)
        self._planned = [fleet for fleet in planned if fleet]

    def _start(self) -> None:
        """Start the next of the fleets that the waiting trials make."""
        if not self.waiting:
            return
        chosen = self._next_fleet()
        self._n_planned = len(chosen)
        self._timings.fleets += 1
        self._announce(chosen)
        self._board(chosen)

    def _next_fleet(self) -> list[FleetTrial]:
        suspects = [trial for trial in self.waiting if trial.alone]
        if suspects:
            return suspects[:1]
        if not self._planned:
            self._plan()
        return self._planned[0]

    def _plan(self) -> None:
        """Plan fleets of the waiting trials that have trained least, in the order of those that have waited longest.

        Shortest first, small batches came last; these learn most in an epoch, so that pruners would let too many go on.
        """
        least = min(trial.run.epochs for trial in self.waiting)
        chosen = [trial for trial in self.waiting if trial.run.epochs <= 2 * least]
        shapes = [trial.shape for trial in chosen]
        plan = sorted(self._packer.plan(shapes, traced=self._programs.keys), key=min)
        data, cost = self._packer.data, self._packer.cost
        seconds = sum(cost.epoch_s([shapes[place] for place in fleet], data) for fleet in plan)
        self.regroups = seconds <= REGROUP_S and self._packer.fits(shapes)
        fleets = [[chosen[place] for place in fleet] for fleet in plan]
        self._planned = fleets if self.regroups else fleets[:1]  # a refill may take from all that wait

    def _announce(self, fleet: Sequence[FleetTrial]) -> None:
        """Make a fleet that is about to start known, and those that follow soon with it: one transaction for all.

        Not all that are planned: what is known is blamed for the worker's death, and trains alone after it.
        """
        if all(trial.known for trial in fleet):
            return
        data, seconds = self._packer.data, 0.0
        for soon in [fleet, *self._planned]:
            self._make_known(soon)
            left = max(trial.lane.training.epochs - trial.run.epochs for trial in soon)
            seconds += self._packer.cost.epoch_s([trial.shape for trial in soon], data) * left
            if seconds > ANNOUNCED_S:
                return

    def _make_known(self, trials: Iterable[FleetTrial]) -> None:
        for trial in trials:
            if not trial.known:
                trial.known = True
                self._begin(trial)

    def _refill(self) -> None:
        if len(self.running) >= self._n_planned:
            return
        candidates = [trial for trial in self.waiting if not trial.alone]
        places = self._packer.refill(
            [trial.shape for trial in self.running],
            [trial.shape for trial in candidates],
            n_lanes=self._n_planned,
        )
        self._board([candidates[place] for place in places])

    def _board(self, trials: Sequence[FleetTrial]) -> None:
        from ..training import FleetTrainer

        if not trials:
            return
        self._make_known(trials)
        if self._trainer is None:
            self._trainer = FleetTrainer([], self._programs)
        self._trainer.add_lanes([trial.lane for trial in trials])
        for lane, trial in enumerate(trials, start=len(self.running)):
            if trial.state is not None:
                self._load(trial, lane)
            trial.begun = True
        self.running = [*self.running, *trials]
        self._forget(set(trials))

    def _load(self, trial: FleetTrial, lane: int) -> None:
        assert self._trainer is not None
        assert trial.state is not None
        try:
            self._trainer.load_lane_state(lane, trial.state)
        except ValueError as error:
            _logger.warning("Trial %d begins again: its checkpoint does not fit (%s).", trial.ticket.number, error)
            trial.run.begin_again()
            trial.keeper.state = None
        trial.state = None

    def _disband(self) -> None:
        """Let all trials of the fleet wait, each to go on alone from where it is."""
        for trial in self.running:
            trial.alone = True
        self._break_up()

    def _break_up(self) -> None:
        """Let all trials of the fleet wait, to go on from where they are."""
        for trial in self.running:
            trial.state = self.lane_state(trial)
        self.waiting = [*self.running, *self.waiting]
        self.running = []
        self._close()

    def _close(self) -> None:
        if self._trainer is not None:
            self._trainer.close()
        self._trainer = None
