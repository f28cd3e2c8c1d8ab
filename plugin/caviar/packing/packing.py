"""Which trials train in one fleet: decided by what it costs. Pure functions."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np

from ..program_key import ProgramKey
from .cost_model import CostModel, DataShape, LaneRow, LaneShape

#: Lanes of one fleet. More gain nothing: from 32 on, a step is all arithmetic.
MAX_LANES: Final = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packer:
    """Plans fleets for one data set on one machine.

    Attributes:
        cost: The machine's prices.
        data: The data set's shape.
        memory_bytes: What one fleet may take.
        deepest: Hidden layers of the deepest network that will come, or None; see `program_depth`.
        dtype: The float type that fleets train in.
    """

    cost: CostModel
    data: DataShape
    memory_bytes: int
    deepest: int | None = None
    dtype: str = "float32"

    def plan(self, lanes: Sequence[LaneShape], *, traced: Collection[ProgramKey] = ()) -> list[list[int]]:
        """Return which lanes train together.

        Within a family the lanes are put in order of batch size, then width, then depth, and that row is cut where it
        costs least, each program that has not been traced yet paid once. Neighbours in this order waste least padding.

        Args:
            lanes: What waits.
            traced: Programs that exist already.

        Returns:
            Fleets of places in ``lanes``: every place once; the fleets of a family one behind the other.
        """
        families: dict[tuple[str, str, str], list[int]] = {}
        for place, lane in enumerate(lanes):
            families.setdefault(lane.family, []).append(place)
        plan: list[list[int]] = []
        for places in families.values():
            ordered = sorted(places, key=lambda place: self._order(lanes[place]))
            row = LaneRow.of([lanes[place] for place in ordered], self.data)
            cuts = self._cut(row, traced=traced)
            used = {self._programs(row.part(start, end))[-1] for start, end in cuts}
            if not used <= set(traced):  # what the first plan traces is free for the others: plan again with it
                cuts = self._cut(row, traced={*traced, *used})
            plan += [ordered[start:end] for start, end in cuts]
        return plan

    def program_of(self, fleet: Sequence[LaneShape]) -> ProgramKey:
        """Return the key of the program that trains these lanes, at least one, of one family."""
        return self._programs(LaneRow.of(fleet, self.data))[-1]

    def refill(self, running: Sequence[LaneShape], waiting: Sequence[LaneShape], *, n_lanes: int) -> list[int]:
        """Return which waiting lanes should join a fleet whose other lanes have left.

        One joins where an epoch with it costs less than one without it and one of it alone. Tried in the order of
        nearness, until the fleet has n_lanes.

        Args:
            running: The lanes that train, at least one.
            waiting: What could join.
            n_lanes: As many as the fleet was planned to have.
        """
        joined: list[int] = []
        fleet = list(running)
        candidates = [place for place, lane in enumerate(waiting) if lane.family == fleet[0].family]
        width = max(lane.width for lane in fleet)
        candidates.sort(key=lambda place: abs(waiting[place].width - width))
        now_s = self.cost.epoch_s(fleet, self.data)
        for place in candidates:
            if len(fleet) >= n_lanes:
                break
            lane = waiting[place]
            with_s = self.cost.epoch_s([*fleet, lane], self.data)
            if with_s - now_s < self.cost.epoch_s([lane], self.data) and self.fits([*fleet, lane]):
                fleet.append(lane)
                joined.append(place)
                now_s = with_s
        return joined

    def _programs(self, row: LaneRow) -> list[ProgramKey]:
        return row.programs(deepest=self.deepest, dtype=self.dtype)

    def _order(self, lane: LaneShape) -> tuple[int, int, int]:
        return lane.batch_size(self.data), lane.width, lane.network.depth

    def _cut(self, row: LaneRow, *, traced: Collection[ProgramKey]) -> list[tuple[int, int]]:
        """Cut a row into fleets at the least cost: the shortest path over its gaps."""
        n = len(row.depths)
        costs = [self._costs(row.part(start, start + MAX_LANES), traced=traced) for start in range(n)]
        return cheapest_cuts(n, lambda start, end: costs[start][end - start - 1], longest=MAX_LANES)

    def _costs(self, row: LaneRow, *, traced: Collection[ProgramKey]) -> list[float]:
        """Return the seconds that the whole training of each of a row's fleets takes; one alone always fits."""
        seconds = self.cost.epochs_s(row) * np.maximum.accumulate(row.epochs)
        seconds += [0.0 if program in traced else self.cost.trace_s for program in self._programs(row)]
        seconds[1:][row.n_bytes()[1:] > self.memory_bytes] = np.inf
        costs: list[float] = seconds.tolist()
        return costs

    def fits(self, fleet: Sequence[LaneShape]) -> bool:
        """Tell whether a fleet of these lanes stays within the memory that one may take."""
        return fleet_bytes(fleet, self.data) <= self.memory_bytes


def cheapest_cuts(n: int, cost: Callable[[int, int], float], *, longest: int) -> list[tuple[int, int]]:
    """Cut 0 … n into pieces [start, end) of the least total cost.

    Args:
        n: Where the last piece ends; 0 gives no piece.
        cost: Of a piece.
        longest: Length of the longest piece.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, n + 1):
        best.append(min((best[start][0] + cost(start, end), start) for start in range(max(0, end - longest), end)))
    cuts, end = [], n
    while end:
        start = best[end][1]
        cuts.append((start, end))
        end = start
    return cuts[::-1]


def fleet_bytes(lanes: Sequence[LaneShape], data: DataShape) -> int:
    """Return about how much memory a fleet takes, besides the data, in float32."""
    return int(LaneRow.of(lanes, data).n_bytes()[-1])


def describe_plan(plan: Sequence[Sequence[int]], lanes: Sequence[LaneShape], packer: Packer) -> list[str]:
    """Return a plan in words, a fleet a line."""
    lines = []
    for number, places in enumerate(plan, start=1):
        fleet = [lanes[place] for place in places]
        activation, batch_norm, optimizer = fleet[0].family
        epochs = max(lane.training.epochs for lane in fleet)
        seconds = packer.cost.epoch_s(fleet, packer.data) * epochs
        lines.append(
            f"fleet {number}: {len(fleet)} lane{'s' if len(fleet) > 1 else ''} of {activation}, "
            f"batch_norm {batch_norm}, {optimizer}; "
            f"batch {_range([lane.batch_size(packer.data) for lane in fleet])}, depth "
            f"{_range([lane.network.depth for lane in fleet])}, units {_range([lane.width for lane in fleet])}; "
            f"about {seconds:.1f} s for {epochs} epochs"
        )
    return lines


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"
