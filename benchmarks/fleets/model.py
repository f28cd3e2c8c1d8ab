"""How many trials a second many workers reach on one database: a closed queueing network, solved by mean values.

N workers train (they "think"), and between that they make transactions. The server's cores are one station, which all
transactions share, and the lock on a study's row is another, which a claim holds for as long as it takes. What a
transaction costs is measured (``costs.py``). Nothing here needs a database. ``solve`` is the paper
model; ``simulation.py`` plays the same fleet event by event. What both say stands in docs/scale.md.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

#: A worker's transactions: take trials; write their parameters, reports or ends; renew leases; read what others did.
KINDS: Final = ("claim", "announce", "report", "end", "renew", "read")

MOST_EXACT: Final = 200  # workers: from there on, the approximation is as good
MOST_SOUGHT: Final = 30_000  # workers: nobody has more


@dataclasses.dataclass(frozen=True)
class Line:
    """CPU seconds of a transaction: a base, and slopes for each trial of some kind.

    Attributes:
        base: Whatever the study.
        finished: For each of its finished trials.
        running: For each trial that other workers run.
        own: For each trial that the worker holds.
        new: For each trial that others have finished since the worker last read the study.
    """

    base: float
    finished: float = 0.0
    running: float = 0.0
    own: float = 0.0
    new: float = 0.0

    def at(self, *, finished: float = 0.0, running: float = 0.0, own: float = 0.0, new: float = 0.0) -> float:
        """Return the seconds in a study of this size."""
        return self.base + self.finished * finished + self.running * running + self.own * own + self.new * new


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a transaction costs the server and the worker, and how often the worker waits for an answer."""

    server: Line
    worker: Line
    trips: float


Costs = Mapping[str, Cost]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fleet:
    """Workers on one database, in the middle of a study.

    Attributes:
        workers: How many.
        training_s: Seconds that a worker trains for each trial; one that trains many at once, for its share.
        claim: Trials that a worker claims, trains and ends together.
        held: Trials that it holds on average; None for as many as it claims.
        epochs: Of a trial, each reported.
        finished: Trials that the database's studies have finished, all together.
        lease_s: How long a lease lasts; it is renewed every third of that.
        sync_s: Seconds after which a worker writes and reads again, at its next epoch's end.
        shards: Studies among which workers and trials are divided, on the same server.
        cores: The server's.
        crowded: Whether the workers' own work is done by the server's cores too, as in a benchmark on one machine.
        trip_s: Seconds of the network from a question to its answer.
        own_s: CPU seconds of a worker's other work on a trial: drawing and planning it, keeping its curves.
        slowness: How many seconds of the clock a second of CPU takes, because of other work on a crowded machine.
    """

    workers: int
    training_s: float
    claim: int = 1
    held: float | None = None
    epochs: int = 20
    finished: int = 1_000
    lease_s: float = 30.0
    sync_s: float = 1.0
    shards: int = 1
    cores: int = 2
    crowded: bool = False
    trip_s: float = 0.0005
    own_s: float = 0.0
    slowness: float = 1.0

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch of all trials that were claimed together."""
        return self.training_s * self.claim / self.epochs

    @property
    def others(self) -> float:
        """How many trials the other workers of its study run, as a worker sees it."""
        return max(0.0, self.workers / self.shards - 1) * self._held

    @property
    def _held(self) -> float:
        return self.claim if self.held is None else self.held

    def demand(self, costs: Costs, kind: str, *, new: float = 0.0) -> tuple[float, float, float]:
        """Return a transaction's CPU seconds of the server, of the worker, and its seconds on the network."""
        size = {"finished": self.finished / self.shards, "running": self.others, "own": self._held, "new": new}
        cost = costs[kind]
        server, worker = cost.server.at(**size), cost.worker.at(**size)
        if kind == "end":
            worker += self.own_s * self.claim
        network = cost.trips * self.trip_s
        return (self.slowness * (server + worker), 0.0, network) if self.crowded else (server, worker, network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a fleet reaches.

    Attributes:
        rate: Trials a second of all workers.
        efficiency: As a share of what they would reach if coordination took no time.
        server: The share of the server's cores that is used.
        lock: The share of the time that a study's row is locked.
        stretch: How many times as long a transaction takes as on a server that is idle.
    """

    rate: float
    efficiency: float
    server: float
    lock: float
    stretch: float


def mean_values(
    n: int, think_s: float, demands: Sequence[float], *, copies: Sequence[int] | None = None
) -> tuple[float, list[float]]:
    """Solve a closed network of queueing stations exactly, by mean value analysis.

    Args:
        n: Customers, at least 1.
        think_s: Seconds between two visits of the stations.
        demands: Seconds of service that a customer needs of each station in a cycle.
        copies: How many equal stations share each demand; None for one of each.

    Returns:
        Cycles a second of all customers, and the seconds that a cycle spends at each station, waiting included.

    Source:
        Reiser and Lavenberg, Mean-value analysis of closed multichain queueing networks, JACM 1980.
    """
    shared = copies or [1] * len(demands)
    queues = [0.0] * len(demands)
    rate, times = 0.0, list(demands)
    for customers in range(1, n + 1):
        times = [demand * (1 + queue) for demand, queue in zip(demands, queues, strict=True)]
        total = think_s + sum(times)
        rate = customers / total if total > 0 else math.inf
        queues = [rate * time / number for time, number in zip(times, shared, strict=True)]
    return rate, times


def approximate_mean_values(
    n: int, think_s: float, demands: Sequence[float], *, copies: Sequence[int] | None = None
) -> tuple[float, list[float]]:
    """Do what ``mean_values`` does in time that does not grow with ``n``, for hundreds of customers and more.

    An arriving customer finds what there is on average, less its own share.

    Source:
        Schweitzer, Approximate analysis of multiclass closed networks of queues, 1979.
    """
    shared = copies or [1] * len(demands)
    queues = [n / (len(demands) + 1) / number for number in shared]
    rate, times = 0.0, list(demands)
    for _ in range(20_000):
        times = [demand * (1 + queue * (n - 1) / n) for demand, queue in zip(demands, queues, strict=True)]
        rate = n / (think_s + sum(times))
        found = [rate * time / number for time, number in zip(times, shared, strict=True)]
        if all(abs(new - old) <= 1e-7 * n for new, old in zip(found, queues, strict=True)):
            break
        queues = found
    return rate, times


def bound(n: int, think_s: float, demands: Sequence[float]) -> float:
    """Return the cycles a second that no network of these demands exceeds: N / (Z + D), and 1 / max D."""
    return min(n / (think_s + sum(demands)), 1 / max(demands))


def transactions(fleet: Fleet, *, read_s: float = 0.0) -> dict[str, float]:
    """Return how many transactions of each kind a worker makes in a cycle, in which its claimed trials are trained.

    It reads after its claim and after each write. Between two writes it trains for
    ``sync_s``, of which reading took ``read_s``, and for one epoch at least. Leases are renewed apart from that.
    """
    epochs = min(fleet.epochs, max(1.0, (fleet.sync_s - read_s) / fleet.epoch_s)) if fleet.epoch_s > 0 else fleet.epochs
    reports = fleet.epochs / epochs - 1
    return {"claim": 1, "announce": 1, "report": reports, "end": 1, "read": reports + 3}


def solve(fleet: Fleet, costs: Costs) -> Prediction:
    """Return what a fleet reaches on paper.

    The server's cores are one fast station and a delay (Seidmann). Renewals and claims take their share of them, and
    a claim holds the lock for as long as the server, busy as it is, the worker and the network take. The rate is a
    fixed point.
    """
    claim_s, claim_worker_s, claim_trip_s = fleet.demand(costs, "claim")
    renewing = fleet.workers / (fleet.lease_s / 3) * fleet.demand(costs, "renew")[0]
    training_s = fleet.training_s * fleet.claim
    cycles, stretch, read_s = fleet.workers / max(training_s, 1e-9), 1.0, 0.0
    free = fleet.cores - renewing
    if free <= 0.01 * fleet.cores:
        return Prediction(rate=0.0, efficiency=0.0, server=1.0, lock=1.0, stretch=math.inf)
    for _ in range(300):
        counts = transactions(fleet, read_s=min(read_s, fleet.sync_s))
        others_new = max(0.0, fleet.workers / fleet.shards - 1) * fleet.claim / counts["read"]
        server_s, outside_s = 0.0, training_s
        for kind, count in counts.items():
            if kind != "claim":
                server, worker, trip = fleet.demand(costs, kind, new=others_new if kind == "read" else 0.0)
                server_s += count * server
                outside_s += count * (worker + trip)
        left = max(0.02 * fleet.cores, free - min(cycles * claim_s, fleet.shards))
        hold_s = claim_s * stretch + claim_worker_s + claim_trip_s
        delay_s = server_s * (fleet.cores - 1) / fleet.cores
        solution = mean_values if fleet.workers <= MOST_EXACT else approximate_mean_values
        found, times = solution(fleet.workers, outside_s + delay_s, [server_s / left, hold_s], copies=[1, fleet.shards])
        new_stretch = (times[0] + delay_s) / server_s
        if abs(found - cycles) < 1e-4 * cycles and abs(new_stretch - stretch) < 1e-4 * stretch:
            break
        cycles, stretch = 0.8 * cycles + 0.2 * found, stretch**0.8 * new_stretch**0.2
        read_s = stretch * fleet.demand(costs, "read", new=others_new)[0]
    rate = cycles * fleet.claim
    return Prediction(
        rate=rate,
        efficiency=rate * fleet.training_s / fleet.workers,
        server=min(1.0, (cycles * (server_s + claim_s) + renewing) / fleet.cores),
        lock=min(1.0, cycles * hold_s / fleet.shards),
        stretch=stretch,
    )


def most_workers(
    fleet: Fleet, costs: Costs, *, efficiency: float = 0.8, sizes: Mapping[str, float] | None = None
) -> int:
    """Return up to how many workers a fleet like this keeps that efficiency, to 5 %: where the curve bends.

    ``sizes`` says which fields grow with the workers, and how much for each of them: ``{"finished": 10}``.
    """
    low, high = 1.0, 2.0
    while high <= MOST_SOUGHT and _efficiency(fleet, costs, round(high), sizes) >= efficiency:
        low, high = high, 2 * high
    while high > 1.05 * low and high - low > 1:
        middle = math.sqrt(low * high)
        if _efficiency(fleet, costs, round(middle), sizes) >= efficiency:
            low = middle
        else:
            high = middle
    return round(low)


def _efficiency(fleet: Fleet, costs: Costs, workers: int, sizes: Mapping[str, float] | None) -> float:
    grown = {name: max(1, round(each * workers)) for name, each in (sizes or {}).items()}
    return solve(dataclasses.replace(fleet, workers=workers, **grown), costs).efficiency  # type: ignore[arg-type]
