"""Which of the trials that a worker has in hand train together next."""

from collections.abc import Collection, Sequence
from typing import Final, final

from ..program_key import ProgramKey
from .cost_model import FleetWork, LaneShape
from .packing import MAX_LANES, Packer
from .plan import Candidate, Plan, T

#: Survivors of a fleet wait for others like them where an epoch of all that they would wait for takes at most so long.
#: Dearer trials train on at once: early results are worth more than full fleets.
REGROUP_S: Final = 2.0

#: Of a sampler that does not learn: planning fleets of more takes longer than it saves.
MOST_IN_HAND: Final = 4 * MAX_LANES


@final
class FleetPlan(Plan):
    """Plans fleets by what they cost.

    Args:
        packer: Decides which lanes train together.
        traced: The programs that there are already; may grow.
        most_in_hand: Trials that a worker has at once, at most.
    """

    def __init__(
        self, packer: Packer, *, traced: Collection[ProgramKey] = (), most_in_hand: int = MOST_IN_HAND
    ) -> None:
        self._most_in_hand = most_in_hand
        self._packer = packer
        self._traced = traced

    @property
    def most_in_hand(self) -> int:
        """Trials that a worker has at once, at most."""
        return self._most_in_hand

    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Plan fleets of the waiting trials that have trained least, in the order of those that have waited longest.

        Shortest first, small batches came last; these learn most in an epoch, so that pruners would let too many go on.

        Returns:
            The fleets, and whether they are cheap: then survivors should wait for others like them.
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
        """Return which waiting trials should join a fleet that was planned to have so many lanes."""
        return [waiting[place] for place in self._packer.refill(_shapes(running), _shapes(waiting), n_lanes=n_lanes)]

    def training_s(self, fleet: Sequence[Candidate]) -> float:
        """Return the seconds until all of a fleet are done."""
        left = max(trial.lane.training.epochs - trial.epochs for trial in fleet)
        return self._epoch_s(_shapes(fleet)) * left

    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:
        """Return the arithmetic of an epoch's training steps, without padding and with it."""
        shapes, data = _shapes(fleet), self._packer.data
        work = FleetWork.of(shapes, data, cache_bytes=self._packer.cost.cache_bytes)
        return sum(shape.flop(data) for shape in shapes), float(work.training_flop)

    def _epoch_s(self, shapes: Sequence[LaneShape]) -> float:
        return self._packer.cost.epoch_s(shapes, self._packer.data)


def _shapes(trials: Sequence[Candidate]) -> list[LaneShape]:
    return [LaneShape(network=trial.lane.network, training=trial.lane.training) for trial in trials]
