"""The tables of ``benchmarks/scaling.py``: what was measured, and the model beside it; and the file that keeps both."""

import dataclasses
import datetime
import json
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .model import Cost, Costs, Fleet, Line, solve, transactions
from .simulation import simulate
from .turns import EPOCHS, LANES, Outcome, Tally

#: Side and lanes → what the tables call it.
SIDES: Final = {
    ("caviar-postgresql", 1): "ours, one at a time",
    ("caviar-postgresql", LANES): f"ours, fleets of {LANES}",
    ("caviar-sqlite", 1): "ours, one at a time, SQLite",
    ("stock-postgresql", 1): "stock Optuna",
}
Measured = dict[tuple[str, int, int], list[Outcome]]  # by side, lanes and workers


def rates_table(measured: Measured, *, training_s: float) -> str:
    """Return trials a second as Markdown: the median of the rounds, the least and the most, and the load before."""
    head = ["workers", "without any cost", *SIDES.values(), "load before"]
    rows = []
    for number in workers_of(measured):
        rounds = [measured[side, lanes, number] for side, lanes in SIDES]
        loads = [outcome.load for outcomes in rounds for outcome in outcomes]
        spreads = (_spread([outcome.rate for outcome in outcomes]) for outcomes in rounds)
        rows.append([str(number), f"{number / training_s:.0f}", *spreads, f"{min(loads):.1f} to {max(loads):.1f}"])
    return _markdown(head, rows)


def workers_of(measured: Measured) -> list[int]:
    """Return the numbers of workers that were measured, ascending."""
    return sorted({workers for _, _, workers in measured})


def model_table(measured: Measured, costs: Costs, *, training_s: float) -> str:
    """Return what was measured on PostgreSQL beside what the model says, as Markdown."""
    head = ["workers", "way", "trials/s", "on paper", "simulated"]
    head += ["CPU ms a trial: server, workers", "in the model", "transactions a trial", "in the model"]
    rows = []
    workers = workers_of(measured)
    for side, lanes in SIDES:
        if side != "caviar-postgresql":
            continue
        fewest = measured[side, lanes, workers[0]]
        fleet = fleet_of(workers[0], lanes, training_s=training_s, trials=fewest[0].trials)
        own_s, slowness = calibrate(fewest, fleet, costs)
        for number in workers:
            outcomes = measured[side, lanes, number]
            fleet = fleet_of(number, lanes, training_s=training_s, trials=outcomes[0].trials)
            fleet = dataclasses.replace(fleet, own_s=own_s, slowness=slowness)
            paper, (played, _) = solve(fleet, costs), simulate(fleet, costs)
            apart = [_per_trial(fleet, costs, whose) for whose in ("server", "worker")]
            served = [1000 * outcome.server_cpu_s / outcome.trials for outcome in outcomes if outcome.server_cpu_s]
            used = _median(outcomes, lambda outcome: 1000 * outcome.used.cpu_s / outcome.trials)
            counts = transactions(fleet)
            rows.append(
                [
                    str(number),
                    SIDES[side, lanes],
                    _spread([outcome.rate for outcome in outcomes]),
                    f"{paper.rate:.1f}",
                    f"{played.rate:.1f}",
                    f"{statistics.median(served) if served else float('nan'):.1f}, {used:.1f}",
                    f"{1000 * apart[0]:.1f}, {1000 * apart[1]:.1f}",
                    f"{_median(outcomes, lambda outcome: outcome.used.commits / outcome.trials):.2f}",
                    f"{sum(counts.values()) / lanes:.2f}",
                ]
            )
    return _markdown(head, rows)


def fleet_of(workers: int, lanes: int, *, training_s: float, trials: int) -> Fleet:
    """Return the model's fleet for a turn on this machine: half-way, with workers and server on the same cores."""
    return Fleet(
        workers=workers,
        training_s=training_s,
        claim=lanes,
        held=1.5 * lanes if lanes > 1 else 1,  # it takes the next fleet while one trains
        epochs=EPOCHS,
        finished=trials // 2,
        cores=os.cpu_count() or 1,
        crowded=True,
        trip_s=0.0,
    )


def calibrate(outcomes: Sequence[Outcome], fleet: Fleet, costs: Costs) -> tuple[float, float]:
    """Return what the fewest workers tell of the rest: CPU seconds of other work on a trial, and the slowness."""
    known_s = _per_trial(fleet, costs, "worker")
    own_s = max(0.0, _median(outcomes, lambda outcome: outcome.used.cpu_s / outcome.trials) - known_s)
    each_s = fleet.workers / _median(outcomes, lambda outcome: outcome.rate)
    busy_s = own_s + known_s + _per_trial(fleet, costs, "server")
    return own_s, max(1.0, (each_s - fleet.training_s) / busy_s)


def to_json(costs: Costs, measured: Measured, *, training_s: float) -> str:
    """Return all that was measured, for ``from_json``."""
    turns = [
        {"side": side, "lanes": lanes, "workers": workers, "outcome": dataclasses.asdict(outcome)}
        for (side, lanes, workers), outcomes in measured.items()
        for outcome in outcomes
    ]
    kept = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "training_s": training_s,
        "costs": {kind: dataclasses.asdict(cost) for kind, cost in costs.items()},
        "turns": turns,
    }
    return json.dumps(kept) + "\n"


def from_json(text: str) -> tuple[Costs, Measured, float]:
    """Return the costs, what was measured, and the seconds of training of a trial."""
    kept = json.loads(text)
    costs = {
        kind: Cost(server=Line(**cost["server"]), worker=Line(**cost["worker"]), trips=cost["trips"])
        for kind, cost in kept["costs"].items()
    }
    measured: Measured = {}
    for turn in kept["turns"]:
        outcome = Outcome(**{**turn["outcome"], "used": Tally(**turn["outcome"]["used"])})
        measured.setdefault((turn["side"], turn["lanes"], turn["workers"]), []).append(outcome)
    return costs, measured, kept["training_s"]


def _per_trial(fleet: Fleet, costs: Costs, whose: str) -> float:
    """Return the model's CPU seconds of the server or of the worker for each trial."""
    apart, counts = dataclasses.replace(fleet, crowded=False), transactions(fleet)  # so that none of it is slowed
    place = ("server", "worker").index(whose)
    new = (fleet.workers - 1) * fleet.claim / counts["read"]
    cycle = sum(count * apart.demand(costs, kind, new=new)[place] for kind, count in counts.items())
    return cycle / fleet.claim


def _median(outcomes: Iterable[Outcome], value: Callable[[Outcome], float]) -> float:
    return statistics.median(value(outcome) for outcome in outcomes)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
