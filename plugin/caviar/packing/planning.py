"""Plans which of a worker's trials train together next: in fleets, by what these cost, or each alone."""

import abc
import math
from collections.abc import Collection, Sequence
from typing import Final, Protocol, TypeVar, final

from ..program_key import ProgramKey
from .cost_model import LaneRow, LaneShape
from .packing import MAX_LANES, Packer

#: If an epoch of all that could wait takes at most this long, the survivors of a fleet wait for others like them.
#: More expensive trials train on at once: early results are worth more than full fleets.
REGROUP_S: Final = 2.0

MOST_IN_HAND: Final = 4 * MAX_LANES  # of a worker in fleets: planning more takes longer than it saves


class Candidate(Protocol):
    """A trial, as far as planning looks at it."""

    @property
    def shape(self) -> LaneShape:
        """What it trains."""

    @property
    def epochs(self) -> int:
        """How many epochs it has done."""


T = TypeVar("T", bound=Candidate)


class Plan(abc.ABC):
    """Decides which trials train together."""

    most_in_hand: int  # trials that a worker has at once, at most

    @abc.abstractmethod
    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Return the next fleets of the waiting trials, and whether survivors should wait for others like them."""

    @abc.abstractmethod
    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:
        """Return which waiting trials should join a fleet that was planned with n_lanes lanes."""

    @abc.abstractmethod
    def training_s(self, fleet: Sequence[Candidate]) -> float:
        """Return the seconds until the whole fleet is done."""

    @abc.abstractmethod
    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:
        """Return the arithmetic of an epoch's training steps, without padding and with it."""


@final
class SoloPlan(Plan):
    """Trains each trial alone. A worker has one at a time, so that samplers see every result."""

    most_in_hand = 1

    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Return each trial by itself."""
        return [[trial] for trial in waiting], False

    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:  # noqa: ARG002
        """Return none."""
        return []

    def training_s(self, fleet: Sequence[Candidate]) -> float:  # noqa: ARG002
        """Return infinity: nobody knows."""
        return math.inf

    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:  # noqa: ARG002
        """Return 0: it is not counted."""
        return 0.0, 0.0


@final
class FleetPlan(Plan):
    """Plans fleets by their cost; ``traced`` has the keys of the programs that exist, and may grow."""

    most_in_hand = MOST_IN_HAND

    def __init__(self, packer: Packer, *, traced: Collection[ProgramKey] = ()) -> None:
        self._packer = packer
        self._traced = traced

    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Plan fleets of the waiting trials that have trained least, those that have waited longest first.

        Not the shortest first: small batches would come last, which learn most in an epoch, and pruners would let too
        many trials go on. Survivors should wait for others like them where fleets are cheap.
        """
        least = min(trial.epochs for trial in waiting)
        chosen = [trial for trial in waiting if trial.epochs <= 2 * least]
        shapes = _shapes(chosen)
        plan = sorted(self._packer.plan(shapes, traced=self._traced), key=min)
        seconds = sum(self._epoch_s([shapes[place] for place in fleet]) for fleet in plan)
        regroups = seconds <= REGROUP_S and self._packer.fits(shapes)
        fleets = [[chosen[place] for place in fleet] for fleet in plan]
        return fleets if regroups else fleets[:1], regroups  # a refill may take from all that wait

    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:
        """Return which waiting trials should join a fleet that was planned with n_lanes lanes."""
        return [waiting[place] for place in self._packer.refill(_shapes(running), _shapes(waiting), n_lanes=n_lanes)]

    def training_s(self, fleet: Sequence[Candidate]) -> float:
        """Return the seconds until the whole fleet is done."""
        left = max(trial.shape.training.epochs - trial.epochs for trial in fleet)
        return self._epoch_s(_shapes(fleet)) * left

    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:
        """Return the arithmetic of an epoch's training steps, without padding and with it."""
        shapes, data = _shapes(fleet), self._packer.data
        return sum(shape.flop(data) for shape in shapes), float(LaneRow.of(shapes, data).training_flop()[-1])

    def _epoch_s(self, shapes: Sequence[LaneShape]) -> float:
        return self._packer.cost.epoch_s(shapes, self._packer.data)


def _shapes(trials: Sequence[Candidate]) -> list[LaneShape]:
    return [trial.shape for trial in trials]
