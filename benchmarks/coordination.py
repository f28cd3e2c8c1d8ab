"""What coordination costs: workers of simulated training on one database, caviar's fleets against stock Optuna.

Run from the project's root: ``python -m benchmarks.coordination`` (some minutes on 2 cores). Each trial draws three
parameters and reports 20 epochs. An epoch of one trial takes so many milliseconds of sleep, and one of a fleet as many
times that as it has lanes: fleets train no faster here, so that what differs is coordination alone. caviar's side is
its real worker with trainers that sleep; stock Optuna's is ``study.optimize``. Both take turns, each on a fresh
database of the same server, or in a fresh SQLite file. What it measures stands in docs/durability.md.
"""

import argparse
import statistics

from benchmarks.fleets.turns import HEADING, LANES, Turn, line_of, measure, server_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8, help="worker processes (default: 8)")
    parser.add_argument("--trials", type=int, default=1600, help="trials of caviar's side a turn (default: 1600)")
    parser.add_argument("--stock-trials", type=int, default=160, help="trials of stock Optuna a turn (default: 160)")
    parser.add_argument("--epoch-ms", type=float, default=1.0, help="simulated training of an epoch (default: 1)")
    parser.add_argument("--lanes", type=int, default=LANES, help=f"trials of a caviar fleet (default: {LANES})")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every side (default: 3)")
    parser.add_argument(
        "--sides",
        default="caviar-postgresql,stock-postgresql",
        help="caviar or stock, then sqlite or postgresql (default: caviar-postgresql,stock-postgresql)",
    )
    arguments = parser.parse_args()
    sides: list[str] = arguments.sides.split(",")
    turns = [
        Turn(
            side=side,
            workers=arguments.workers,
            trials=arguments.trials if side.startswith("caviar") else arguments.stock_trials,
            epoch_s=arguments.epoch_ms / 1000,
            lanes=arguments.lanes,
        )
        for side in sides
    ]
    rates: dict[str, list[float]] = {}
    print(HEADING)
    with server_for(sides) as server:
        for _ in range(arguments.rounds):
            for turn in turns:
                outcome = measure(turn, server)
                print(line_of(turn, outcome), flush=True)
                rates.setdefault(turn.side, []).append(outcome.rate)
    for side, found in rates.items():
        shares = ", ".join(f"{found_ / other:.2f}" for found_, other in zip(found, rates[sides[-1]], strict=True))
        print(f"{side:22}median {statistics.median(found):.1f} trials/s; against {sides[-1]}, turn by turn: {shares}")


if __name__ == "__main__":
    main()
