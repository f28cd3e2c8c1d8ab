"""Decides by cost which lanes train in one fleet. Pure functions."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np

from ..program_key import ProgramKey
from .cost_model import CostModel, DataShape, LaneRow, LaneShape

MAX_LANES: Final = 64  # the most lanes of one fleet. More gain nothing: from 32 on, a step is all arithmetic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packer:
    """Plans fleets for one data set on one machine."""

    cost: CostModel  # the machine's prices
    data: DataShape
    memory_bytes: int  # what one fleet may take
    deepest: int | None = None  # hidden layers of the deepest network that will come, or None; see `program_depth`
    dtype: str = "float32"  # the float type of the fleets

    def plan(self, lanes: Sequence[LaneShape], *, traced: Collection[ProgramKey] = ()) -> list[list[int]]:
        """Return which lanes train together: fleets of places in ``lanes``, those of a kind one after the other.

        The lanes of a kind are sorted by batch size, width and depth, so that neighbours waste the least padding. This
        row is then cut where it costs least. A program that is not in ``traced`` is paid once.
        """
        kinds: dict[tuple[str, str, str], list[int]] = {}
        for place, lane in enumerate(lanes):
            kinds.setdefault(lane.kind, []).append(place)
        plan: list[list[int]] = []
        for places in kinds.values():
            ordered = sorted(places, key=lambda place: self._order(lanes[place]))
            row = LaneRow.of([lanes[place] for place in ordered], self.data)
            cuts = self._cut(row, traced=traced)
            used = {self._program_keys(row.part(start, end))[-1] for start, end in cuts}
            if not used <= set(traced):  # what the first plan traces costs the others nothing, so plan again with it
                cuts = self._cut(row, traced={*traced, *used})
            plan += [ordered[start:end] for start, end in cuts]
        return plan

    def program_key(self, fleet: Sequence[LaneShape]) -> ProgramKey:
        """Return the key of the program that trains these lanes, at least one, of one kind."""
        return self._program_keys(LaneRow.of(fleet, self.data))[-1]

    def refill(self, running: Sequence[LaneShape], waiting: Sequence[LaneShape], *, n_lanes: int) -> list[int]:
        """Return the places of the waiting lanes that should join a running fleet, at least one lane, up to n_lanes.

        A lane joins if an epoch with it costs less than an epoch without it and one of the lane alone. Lanes of the
        most similar width are tried first.
        """
        joined: list[int] = []
        fleet = list(running)
        candidates = [place for place, lane in enumerate(waiting) if lane.kind == fleet[0].kind]
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

    def _program_keys(self, row: LaneRow) -> list[ProgramKey]:
        return row.program_keys(deepest=self.deepest, dtype=self.dtype)

    def _order(self, lane: LaneShape) -> tuple[int, int, int]:
        return lane.batch_size(self.data), lane.width, lane.network.depth

    def _cut(self, row: LaneRow, *, traced: Collection[ProgramKey]) -> list[tuple[int, int]]:
        n = len(row.lanes)
        costs = [self._costs(row.part(start, start + MAX_LANES), traced=traced) for start in range(n)]
        return cheapest_cuts(n, lambda start, end: costs[start][end - start - 1], longest=MAX_LANES)

    def _costs(self, row: LaneRow, *, traced: Collection[ProgramKey]) -> list[float]:
        """Return the seconds of the whole training of each of a row's fleets; a fleet of one lane always fits."""
        seconds = self.cost.epochs_s(row) * row.most("epochs")
        seconds += [0.0 if key in traced else self.cost.trace_s for key in self._program_keys(row)]
        seconds[1:][row.n_bytes()[1:] > self.memory_bytes] = np.inf
        costs: list[float] = seconds.tolist()
        return costs

    def fits(self, fleet: Sequence[LaneShape]) -> bool:
        """Tell whether these lanes fit in the memory of one fleet."""
        return fleet_bytes(fleet, self.data) <= self.memory_bytes


def cheapest_cuts(n: int, cost: Callable[[int, int], float], *, longest: int) -> list[tuple[int, int]]:
    """Cut 0 … n into pieces [start, end), none over ``longest``, at the least total cost: a shortest path."""
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
    """Return a plan in words, one fleet a line."""
    lines = []
    for number, places in enumerate(plan, start=1):
        fleet = [lanes[place] for place in places]
        activation, batch_norm, optimizer = fleet[0].kind
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
