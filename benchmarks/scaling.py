"""How coordination's cost grows with the workers: 1 to 16 of simulated training, ours and stock Optuna, and the model.

Run from the project's root: ``python -m benchmarks.scaling --output benchmarks/scaling.json`` (some ten minutes on 2
cores). All sides take turns, as in ``benchmarks/coordination.py``. Beside what was measured stands what the model of
``benchmarks/fleets/model.py`` says of the same workers, from costs of transactions that are measured first.

``python -m benchmarks.scaling --from benchmarks/scaling.json --picture docs/scale.svg`` needs no database. It goes on
with the model to 10,000 workers, and draws the picture of docs/scale.md.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleets.costs import measure_costs
from benchmarks.fleets.projection import draw, project
from benchmarks.fleets.tables import SIDES, Measured, from_json, model_table, rates_table, to_json
from benchmarks.fleets.turns import EPOCHS, HEADING, Turn, line_of, measure, server_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16", help="numbers of workers (default: 1,2,4,8,16)")
    parser.add_argument("--training-s", type=float, default=0.1, help="simulated training of a trial (default: 0.1)")
    parser.add_argument("--trials", type=int, default=64, help="trials of each of our workers (default: 64)")
    parser.add_argument("--stock-trials", type=int, default=8, help="trials of each stock worker (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every side (default: 3)")
    parser.add_argument("--output", type=Path, help="a JSON file that keeps costs and turns")
    parser.add_argument("--from", dest="kept", type=Path, help="such a file, instead of measuring")
    parser.add_argument("--picture", type=Path, help="an SVG to draw, with the model's tables up to 10,000 workers")
    parser.add_argument("--cores", type=int, default=8, help="of the model's server (default: 8)")
    arguments = parser.parse_args()
    if arguments.kept is not None:
        costs, measured, training_s = from_json(arguments.kept.read_text(encoding="utf-8"))
    else:
        costs, training_s = measure_costs(say=print), arguments.training_s
        measured = run([int(number) for number in arguments.workers.split(",")], arguments)
    if arguments.output is not None:
        arguments.output.write_text(to_json(costs, measured, training_s=training_s), encoding="utf-8")
    print(f"\n{rates_table(measured, training_s=training_s)}")
    print(f"\n{model_table(measured, costs, training_s=training_s)}")
    if arguments.picture is not None:
        print(f"\n{project(costs, cores=arguments.cores)}")
        draw(measured, costs, arguments.picture, training_s=training_s, cores=arguments.cores)


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


if __name__ == "__main__":
    main()
