"""How coordination's cost grows with the workers: 1 to 16 of simulated training, ours and stock Optuna, and the model.

Run from the project's root: ``python -m benchmarks.scaling`` (some ten minutes on 2 cores). All sides take turns, as in
``benchmarks/coordination.py``. Beside what was measured stands what ``benchmarks/scaling_model.py`` says of the same
workers, from costs that are measured first (``benchmarks/scaling_costs.py``). With ``--output`` all of it is kept for
``benchmarks/scaling_projection.py``. What came out stands in docs/scale.md.
"""

import argparse
import dataclasses
import datetime
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .coordination import EPOCHS, HEADING, LANES, Outcome, Turn, line_of, measure, server_for
from .scaling_costs import measure_costs
from .scaling_model import Cost, Costs, Fleet, Line, solve, transactions
from .scaling_simulation import simulate

#: Side and lanes → what the tables call it.
SIDES: Final = {
    ("caviar-postgresql", 1): "ours, one at a time",
    ("caviar-postgresql", LANES): f"ours, fleets of {LANES}",
    ("caviar-sqlite", 1): "ours, one at a time, SQLite",
    ("stock-postgresql", 1): "stock Optuna",
}
Measured = dict[tuple[str, int, int], list[Outcome]]  # by side, lanes and workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16", help="numbers of workers (default: 1,2,4,8,16)")
    parser.add_argument("--training-s", type=float, default=0.1, help="simulated training of a trial (default: 0.1)")
    parser.add_argument("--trials", type=int, default=64, help="trials of each of our workers (default: 64)")
    parser.add_argument("--stock-trials", type=int, default=8, help="trials of each stock worker (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every side (default: 3)")
    parser.add_argument("--output", type=Path, help="a JSON file that keeps costs and turns")
    arguments = parser.parse_args()
    workers = [int(number) for number in arguments.workers.split(",")]
    costs = measure_costs(say=print)
    measured = run(workers, arguments)
    print(f"\n{rates_table(measured, workers, training_s=arguments.training_s)}")
    print(f"\n{model_table(measured, workers, costs, training_s=arguments.training_s)}")
    if arguments.output is not None:
        arguments.output.write_text(to_json(costs, measured, training_s=arguments.training_s), encoding="utf-8")


def run(workers: Sequence[int], arguments: argparse.Namespace) -> Measured:
    """Have every side run with every number of workers; every other round goes backwards."""
    measured: Measured = defaultdict(list)
    print(HEADING)
    with server_for([side for side, _ in SIDES]) as server:
        for index in range(arguments.rounds):
            for number in workers:
                for side, lanes in list(SIDES)[:: -1 if index % 2 else 1]:
                    trials = arguments.stock_trials if side.startswith("stock") else arguments.trials
                    turn = Turn(
                        side=side,
                        workers=number,
                        trials=trials * number,
                        epoch_s=arguments.training_s / EPOCHS,
                        lanes=lanes,
                    )
                    outcome = measure(turn, server)
                    print(line_of(turn, outcome), flush=True)
                    measured[side, lanes, number].append(outcome)
    return measured


def rates_table(measured: Measured, workers: Sequence[int], *, training_s: float) -> str:
    """Return trials a second as Markdown: the median of the rounds, the least and the most, and the load before."""
    head = ["workers", "without any cost", *SIDES.values(), "load before"]
    rows = []
    for number in workers:
        rounds = [measured[side, lanes, number] for side, lanes in SIDES]
        loads = [outcome.load for outcomes in rounds for outcome in outcomes]
        spreads = (_spread([outcome.rate for outcome in outcomes]) for outcomes in rounds)
        rows.append([str(number), f"{number / training_s:.0f}", *spreads, f"{min(loads):.1f} to {max(loads):.1f}"])
    return _markdown(head, rows)


def model_table(measured: Measured, workers: Sequence[int], costs: Costs, *, training_s: float) -> str:
    """Return what was measured on PostgreSQL beside what the model says, as Markdown."""
    head = ["workers", "way", "trials/s", "on paper", "simulated"]
    head += ["CPU ms a trial: server, workers", "in the model", "transactions a trial", "in the model"]
    rows = []
    for side, lanes in SIDES:
        if side != "caviar-postgresql":
            continue
        calibrated = calibrate(measured[side, lanes, workers[0]], workers[0], lanes, costs, training_s=training_s)
        for number in workers:
            outcomes = measured[side, lanes, number]
            fleet = dataclasses.replace(
                fleet_of(number, lanes, training_s=training_s, trials=outcomes[0].trials), **calibrated
            )
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


def calibrate(
    outcomes: Sequence[Outcome], workers: int, lanes: int, costs: Costs, *, training_s: float
) -> dict[str, float]:
    """Return what the fewest workers tell of the rest: their other work on a trial, and how slow the machine is."""
    fleet = fleet_of(workers, lanes, training_s=training_s, trials=outcomes[0].trials)
    cpu_s = _median(outcomes, lambda outcome: outcome.used.cpu_s / outcome.trials)
    own_s = max(0.0, cpu_s - _per_trial(fleet, costs, "worker"))
    cycle_s = workers / _median(outcomes, lambda outcome: outcome.rate)
    busy_s = own_s + _per_trial(fleet, costs, "worker") + _per_trial(fleet, costs, "server")
    return {"own_s": own_s, "slowness": max(1.0, (cycle_s - training_s) / busy_s)}


def to_json(costs: Costs, measured: Measured, *, training_s: float) -> str:
    """Return all that was measured."""
    turns = [
        {"side": side, "lanes": lanes, "workers": workers, **dataclasses.asdict(outcome)}
        for (side, lanes, workers), outcomes in measured.items()
        for outcome in outcomes
    ]
    kept = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "training_s": training_s,
        "costs": {kind: dataclasses.asdict(cost) for kind, cost in costs.items()},
        "turns": turns,
    }
    return json.dumps(kept, indent=1) + "\n"


def read_costs(kept: Mapping[str, Any]) -> Costs:
    """Return the costs that ``to_json`` kept."""
    return {
        kind: Cost(server=Line(**cost["server"]), worker=Line(**cost["worker"]), trips=cost["trips"])
        for kind, cost in kept["costs"].items()
    }


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


if __name__ == "__main__":
    main()
