"""Plays a fleet of ``model.py`` event by event: each worker, each transaction, each renewal.

It holds what the paper model averages: epochs of random length, writes that are due by the clock, claims that wait
for the lock, and workers without work that ask again and again.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Final

from .model import Costs, Fleet, Prediction, transactions

#: What a process asks for: to ``wait`` so many seconds, ``use`` so much of a core, ``lock`` or ``free`` a study.
Step = tuple[str, float]
Process = Generator[Step, None, None]
MOST_EVENTS: Final = 1_500_000
MOST_RENEWING: Final = 500
POLL_S: Final = (0.05, 0.5)  # a worker without work looks again after the first, and at last after the second


class Simulation:
    """Runs processes on a clock, a server of some cores that all share equally, and locks that are given in turn."""

    def __init__(self, *, cores: int, locks: int) -> None:
        self.now_s = 0.0
        self.events = 0
        self.used_s = 0.0  # of all cores together
        self.held_s = 0.0  # of all locks together
        self._cores = cores
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Process]] = []
        self._served: list[tuple[float, int, Process]] = []  # by how much each must have got since the beginning
        self._given_s = 0.0  # CPU that whoever was served from the beginning would have got
        self._free = [True] * locks
        self._since = [0.0] * locks
        self._queues: list[deque[Process]] = [deque() for _ in range(locks)]

    def start(self, process: Process) -> None:
        """Let a process take its first step."""
        self._step(process)

    def run(self, *, until: Callable[[], bool]) -> None:
        """Go on until then, or until nothing happens any more."""
        while not until() and (self._waiting or self._served):
            share = min(1.0, self._cores / len(self._served)) if self._served else 1.0
            served_at = self.now_s + (self._served[0][0] - self._given_s) / share if self._served else math.inf
            waited_at = self._waiting[0][0] if self._waiting else math.inf
            at, queue = min((served_at, self._served), (waited_at, self._waiting), key=lambda event: event[0])
            passed_s = max(0.0, at - self.now_s)
            self._given_s += passed_s * share
            self.used_s += passed_s * min(self._cores, len(self._served))
            self.now_s += passed_s
            self.events += 1
            self._step(heapq.heappop(queue)[2])

    def _step(self, process: Process) -> None:
        for what, value in process:
            if what == "wait":
                heapq.heappush(self._waiting, (self.now_s + value, next(self._order), process))
                return
            if what == "use":
                heapq.heappush(self._served, (self._given_s + value, next(self._order), process))
                return
            lock = int(value)
            if what == "lock":
                if not self._free[lock]:
                    self._queues[lock].append(process)
                    return
                self._free[lock], self._since[lock] = False, self.now_s
            else:
                self.held_s += self.now_s - self._since[lock]
                self._since[lock] = self.now_s
                if self._queues[lock]:
                    following = self._queues[lock].popleft()
                    heapq.heappush(self._waiting, (self.now_s, next(self._order), following))
                else:
                    self._free[lock] = True


class Tally:
    """What happened: trials, transactions of the workers, and how long the slowest renewal took lately."""

    def __init__(self) -> None:
        self.trials = 0.0
        self.transactions = 0
        self.slowest_renewal_s = 0.0


def simulate(
    fleet: Fleet, costs: Costs, *, seed: int = 0, trials: int = 2_000, idle: int = 0, most_events: int = MOST_EVENTS
) -> tuple[Prediction, Tally]:
    """Return what a fleet reaches, over so many trials after a start in the middle of its work.

    The length of an epoch is drawn from a gamma distribution with a deviation of half its mean. So many ``idle``
    workers find no trial, and ask for one again and again.
    """
    draw, tally = random.Random(seed), Tally()
    simulation = Simulation(cores=fleet.cores, locks=fleet.shards)
    for worker in range(fleet.workers):
        simulation.start(_work(fleet, costs, simulation, tally, draw, shard=worker % fleet.shards))
    renewing = min(fleet.workers, MOST_RENEWING)
    for _ in range(renewing):
        simulation.start(_renew(fleet, costs, simulation, tally, draw, workers=fleet.workers / renewing))
    for worker in range(idle):
        simulation.start(_poll(fleet, costs, draw, shard=worker % fleet.shards))
    # Whoever begins in the middle of an epoch has not yet met the others at the server: each must write once or twice.
    warm = max(trials / 4, 1.5 * fleet.workers * fleet.claim / (1 + transactions(fleet)["report"]))
    trials = max(trials, round(warm))
    simulation.run(until=lambda: tally.trials >= warm or simulation.events > most_events / 4)
    began_s, used_s, held_s, before = simulation.now_s, simulation.used_s, simulation.held_s, tally.trials
    tally.slowest_renewal_s = 0.0
    simulation.run(until=lambda: tally.trials >= before + trials or simulation.events > most_events)
    seconds = max(simulation.now_s - began_s, 1e-9)
    rate = (tally.trials - before) / seconds
    reached = Prediction(
        rate=rate,
        efficiency=rate * fleet.training_s / fleet.workers,
        server=(simulation.used_s - used_s) / seconds / fleet.cores,
        lock=(simulation.held_s - held_s) / seconds / fleet.shards,
        stretch=math.nan,
    )
    return reached, tally


def _work(
    fleet: Fleet, costs: Costs, simulation: Simulation, tally: Tally, draw: random.Random, *, shard: int
) -> Process:
    """Be a worker that always finds trials; it begins somewhere in its first ones."""
    others = max(0.0, fleet.workers / fleet.shards - 1)
    done, yet_to_read = draw.randrange(fleet.epochs), 0.0
    new = others * fleet.claim / fleet.epochs  # that others finish during one of its epochs

    def act(kind: str) -> Process:
        nonlocal yet_to_read
        unread, yet_to_read = (yet_to_read, 0.0) if kind == "read" else (0.0, yet_to_read)
        server_s, worker_s, trip_s = fleet.demand(costs, kind, new=unread)
        tally.transactions += 1
        if kind == "claim":
            yield "lock", shard
        yield "use", server_s
        yield "wait", trip_s + worker_s
        if kind == "claim":
            yield "free", shard

    synced_s = -draw.random() * fleet.sync_s
    while True:
        if done == 0:
            for kind in ("claim", "read", "announce"):
                yield from act(kind)
            synced_s = simulation.now_s
            yield from act("read")
        while done < fleet.epochs:
            epoch_s = draw.gammavariate(4.0, fleet.epoch_s / 4.0)
            due = math.ceil((fleet.sync_s - (simulation.now_s - synced_s)) / fleet.epoch_s) if fleet.epoch_s else 1
            epochs = max(1, min(due, fleet.epochs - done))
            if epochs > 1:  # nothing is written before they are over
                epoch_s = draw.gammavariate(4.0 * epochs, fleet.epoch_s / 4.0)
            yield "wait", epoch_s
            done += epochs
            yet_to_read += new * epochs
            tally.trials += fleet.claim * epochs / fleet.epochs
            if simulation.now_s - synced_s >= fleet.sync_s and done < fleet.epochs:
                yield from act("report")
                synced_s = simulation.now_s
                yield from act("read")
        yield from act("end")
        synced_s = simulation.now_s
        yield from act("read")
        done = 0


def _renew(
    fleet: Fleet, costs: Costs, simulation: Simulation, tally: Tally, draw: random.Random, *, workers: float
) -> Process:
    """Be the threads of so many workers that renew their leases, at once, so that there are fewer events."""
    server_s, worker_s, trip_s = fleet.demand(costs, "renew")
    yield "wait", draw.random() * fleet.lease_s / 3
    while True:
        began_s = simulation.now_s
        yield "use", workers * server_s
        tally.slowest_renewal_s = max(tally.slowest_renewal_s, (simulation.now_s - began_s) / workers)
        yield "wait", trip_s + worker_s
        yield "wait", fleet.lease_s / 3


def _poll(fleet: Fleet, costs: Costs, draw: random.Random, *, shard: int) -> Process:
    """Be a worker for which no trial is left, while others run the last ones."""
    claim_s, claim_worker_s, claim_trip_s = fleet.demand(costs, "claim")
    read_s, read_worker_s, read_trip_s = fleet.demand(costs, "read")
    pause_s = POLL_S[0]
    yield "wait", draw.random() * POLL_S[1]
    while True:
        yield "use", read_s
        yield "wait", read_trip_s + read_worker_s
        yield "lock", shard
        yield "use", claim_s
        yield "wait", claim_trip_s + claim_worker_s
        yield "free", shard
        yield "use", read_s
        yield "wait", read_trip_s + read_worker_s + pause_s
        pause_s = min(1.1 * pause_s, POLL_S[1])
