"""The trials that a worker has in hand: those that train, and those that wait for a place."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, final

from ..atomic_write import write_whole
from ..errors import ends_worker
from ..interventions import LiveHyperparameter
from ..packing.planning import Plan
from .objective import LaneSpec
from .trial_in_hand import Stage, TrialInHand

if TYPE_CHECKING:
    from ..training import LaneState, Metrics, Trainer

_logger = logging.getLogger(__name__)

Phase = Literal["compile_s", "training_s", "bookkeeping_s", "sampling_s", "waiting_s"]

ANNOUNCED_S: Final = 2.0  # fleets that together train for about this long are announced together


@dataclasses.dataclass(kw_only=True)
class Timings:
    """Seconds of one worker by activity, and the arithmetic of its training."""

    compile_s: float = 0.0  # first epochs of programs that were new to the process, including tracing or loading them
    training_s: float = 0.0  # all other epochs
    bookkeeping_s: float = 0.0  # claiming trials, reports, pruning, storing and MLflow
    sampling_s: float = 0.0  # drawing hyperparameters and planning fleets
    waiting_s: float = 0.0  # waiting for others to finish the last trials
    flop: float = 0.0  # arithmetic of the training steps' products, without padding
    padded_flop: float = 0.0  # the same with padding
    traces: int = 0  # programs that were traced
    trials: int = 0  # trials that ended
    fleets: int = 0  # fleets that were started

    @property
    def trained_s(self) -> float:
        """Seconds of all epochs."""
        return self.compile_s + self.training_s

    @contextlib.contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: Phase, seconds: float) -> None:
        """Count seconds."""
        setattr(self, name, getattr(self, name) + seconds)

    def save(self, path: Path) -> None:
        """Write them as JSON; a full disk must not stop the run."""
        try:
            write_whole(path, json.dumps(dataclasses.asdict(self)), durable=False)
        except OSError as error:
            _logger.debug("The timings could not be written to %s: %s", path, error)


class Trainers(Protocol):
    """Makes trainers."""

    def n_programs(self) -> tuple[int, int]:
        """Return how many programs exist, and how many of them were traced here."""

    def make(self, lanes: Sequence[LaneSpec]) -> "Trainer":
        """Return a trainer of these lanes, at least one, in this order."""


@final
class Crew:
    """Trains some of the trials in hand, with one trainer at a time.

    Fleets are planned for the trials that have trained least, and run one after the other. If they are cheap, a fleet
    that pruning has thinned is broken up, and its survivors wait for those of other fleets: together they fill fleets
    again, and are judged against more trials. If they are expensive, waiting trials take the free places instead. Each
    round is `regroup`, `announce`, `board` and `run_epoch`.
    """

    def __init__(self, plan: Plan, trainers: Trainers) -> None:
        self.timings: Final = Timings()
        self.waiting: list[TrialInHand] = []  # for a place
        self.running: list[TrialInHand] = []  # in the order of their lanes
        self.most_in_hand: Final = plan.most_in_hand
        self._plan = plan
        self._trainers = trainers
        self._trainer: Trainer | None = None
        self._n_programs, self._n_traces = trainers.n_programs()
        self._planned: list[list[TrialInHand]] = []  # fleets to come
        self._chosen: list[TrialInHand] = []  # for the next places
        self._n_lanes = 0  # with which the running fleet was planned
        self._regroups = False

    @property
    def in_hand(self) -> list[TrialInHand]:
        """All trials: the running ones in the order of their lanes, then those that wait."""
        return [*self.running, *self.waiting]

    @property
    def begun(self) -> list[TrialInHand]:
        """The trials that have trained."""
        return [trial for trial in self.in_hand if trial.has_begun]

    @property
    def unbegun(self) -> list[TrialInHand]:
        """The trials that have not trained: those of planned fleets, in their order, then the others."""
        planned = [trial for fleet in self._planned for trial in fleet]
        return [trial for trial in dict.fromkeys([*planned, *self.waiting]) if not trial.has_begun]

    @property
    def is_free(self) -> bool:
        """Whether the next fleet must still be planned."""
        return not self.running and not self._planned

    def regroup(self) -> None:
        """Break up the fleet if a third of it has left, its trials are cheap, and others wait to train with them."""
        if self._regroups and self.waiting and 3 * len(self.running) <= 2 * self._n_lanes:
            self._break_up()

    def announce(self) -> list[TrialInHand]:
        """Choose the trials that get a place next, and return those to be written to the database before they train.

        They train now or soon. Not all planned trials: a trial that is in the database is blamed if the worker dies,
        and trains alone afterwards.
        """
        with self.timings.phase("sampling_s"):
            fleets = self._next_fleets()
            self._chosen = fleets[0] if fleets else []
            if all(trial.stage is not Stage.DRAWN for trial in self._chosen):
                return []
            announced, seconds = [], 0.0
            for fleet in fleets:
                announced += [trial for trial in fleet if trial.stage is Stage.DRAWN]
                seconds += self._plan.training_s(fleet)
                if seconds > ANNOUNCED_S:
                    break
        for trial in announced:
            trial.stage = Stage.ANNOUNCED
        return announced

    def board(self) -> None:
        """Give the chosen trials their places; each goes on from where it is. Raises if one alone gets no trainer."""
        joining = [trial for trial in self._chosen if trial in self.waiting]
        self._chosen = []
        if not joining:
            return
        if not self.running:
            self._n_lanes = len(joining)
            self.timings.fleets += 1
        self._leave_lanes()
        self.running = [*self.running, *joining]
        self._forget(joining)
        with self.timings.phase("sampling_s"):
            try:
                self._trainer = self._trainers.make([trial.lane for trial in self.running])
                for lane, trial in enumerate(self.running):
                    self._load(self._trainer, lane, trial)
            except Exception as error:  # noqa: BLE001  it may be one trial's fault
                self._blame(error)

    def run_epoch(self) -> "list[Metrics]":
        """Train all lanes for one epoch, and return each running trial's metrics; raises if a trainer of one fails.

        If a fleet fails, there are none, and its trials wait again, to train alone.
        """
        if self._trainer is None:
            return []
        started = time.perf_counter()
        try:
            metrics = self._trainer.run_epoch()
        except Exception as error:  # noqa: BLE001  it may be one trial's fault
            self._blame(error)
            return []
        elapsed_s = time.perf_counter() - started
        n_programs, n_traces = self._trainers.n_programs()
        timings, (flop, padded_flop) = self.timings, self._plan.flop(self.running)
        timings.add("compile_s" if n_programs > self._n_programs else "training_s", elapsed_s)
        timings.traces += n_traces - self._n_traces
        timings.flop += flop
        timings.padded_flop += padded_flop
        self._n_programs, self._n_traces = n_programs, n_traces
        for trial in self.running:
            trial.run.train_seconds += elapsed_s / len(self.running)
        return metrics

    def lane_state(self, trial: TrialInHand) -> "LaneState":
        """Return a copy of the state of a trial that has begun."""
        if trial.state is not None:
            return trial.state
        assert self._trainer is not None
        return self._trainer.lane_state(self.running.index(trial))

    def set_hyperparameter(self, trial: TrialInHand, name: LiveHyperparameter, value: float) -> float:
        """Change a running trial's hyperparameter from its next epoch on, without a new trace.

        Returns:
            Its value until now; the first one if its layers differ.

        Raises:
            SpecError: If the trial's network has nothing for it to act on.
            SpaceError: If the value is outside its range.
        """
        assert self._trainer is not None
        lane = self.running.index(trial)
        before = self._trainer.lane_state(lane)
        self._trainer.set_hyperparameter(lane, name, value)
        return float(before[f"hyperparameter.{name}"].flat[0])

    def load_state(self, trial: TrialInHand, state: "LaneState") -> None:
        """Put an earlier state into a running trial's lane.

        Raises:
            ValueError: If it belongs to another network or optimizer.
        """
        assert self._trainer is not None
        self._trainer.load_lane_state(self.running.index(trial), state)

    def best_model(self, trial: TrialInHand) -> object:
        """Return a running trial's Keras network as it was at its best epoch; its lane cannot train on."""
        assert self._trainer is not None
        assert trial.best_state is not None
        lane = self.running.index(trial)
        self._trainer.load_lane_state(lane, trial.best_state)
        return self._trainer.lane_model(lane)

    def remove(self, trials: Iterable[TrialInHand]) -> None:
        """Let go of trials, running or waiting."""
        gone = set(trials)
        if self._trainer is not None:
            self._trainer.drop_lanes([lane for lane, trial in enumerate(self.running) if trial in gone])
        self.running = [trial for trial in self.running if trial not in gone]
        self._forget(gone)
        if not self.running:
            self._close()

    def _next_fleets(self) -> list[list[TrialInHand]]:
        """Return the trials for the free places, then the fleets to come."""
        if not self.waiting:
            return []
        if self.running:
            if self._regroups or len(self.running) >= self._n_lanes:
                return []
            candidates = [trial for trial in self.waiting if not trial.suspected]
            return [self._plan.refill(self.running, candidates, n_lanes=self._n_lanes)]
        suspects = [trial for trial in self.waiting if trial.suspected]
        if suspects:
            return [suspects[:1]]
        if not self._planned:
            self._planned, self._regroups = self._plan.fleets(self.waiting)
        return self._planned

    def _forget(self, trials: Collection[TrialInHand]) -> None:
        self.waiting = [trial for trial in self.waiting if trial not in trials]
        planned = ([trial for trial in fleet if trial not in trials] for fleet in self._planned)
        self._planned = [fleet for fleet in planned if fleet]

    def _load(self, trainer: "Trainer", lane: int, trial: TrialInHand) -> None:
        if trial.state is not None:
            try:
                trainer.load_lane_state(lane, trial.state)
            except ValueError as error:
                _logger.warning("Trial %d starts over: its checkpoint does not fit (%s).", trial.ticket.number, error)
                trial.run.begin_again()
                trial.best_state = None
                trial.saved_epochs = 0
        trial.state = None
        trial.run.output = trainer.output
        trial.stage = Stage.RUNNING

    def _blame(self, error: Exception) -> None:
        """Let the trials of a failed fleet wait, to train alone; raise the error if only one trial trained."""
        if len(self.running) == 1 or ends_worker(error):
            raise error
        _logger.warning("A fleet of %d trials failed; each now trains alone: %s", len(self.running), error)
        for trial in self.running:
            trial.suspected = True
        self._break_up()

    def _break_up(self) -> None:
        """Let all running trials wait; they go on from where they are."""
        self._leave_lanes()
        self.waiting = [*self.running, *self.waiting]
        self.running = []

    def _leave_lanes(self) -> None:
        """Take the running trials' states out of their lanes."""
        for trial in self.running:
            if trial.stage is Stage.RUNNING:
                trial.state = self.lane_state(trial)
                trial.stage = Stage.SET_ASIDE
        self._close()

    def _close(self) -> None:
        if self._trainer is not None:
            self._trainer.close()
        self._trainer = None
