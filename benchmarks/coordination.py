"""What coordination costs: workers of simulated training on one database, caviar's fleets against stock Optuna.

Run from the project's root: ``python -m benchmarks.coordination`` (some minutes on 2 cores). Each trial draws three
parameters and reports 20 epochs. An epoch of one trial takes so many milliseconds of sleep, and one of a fleet as many
times that as it has lanes: fleets train no faster here, so that what differs is coordination alone. caviar's side is
its real worker with trainers that sleep; stock Optuna's is ``study.optimize``. Both take turns, each on a fresh
database of the same server, or in a fresh SQLite file. What it measures stands in docs/durability.md.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from tests.postgresql import Server, running_server
from tests.worker.fakes import Made, PairPlan

from caviar import KerasObjective
from caviar.spec import StudySpec, parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.studies import create_study

EPOCHS, LANES = 20, 16
SPACE = {
    "learning_rate": {"low": 1e-3, "high": 0.3, "scale": "log"},
    "momentum": {"low": 0.5, "high": 0.99, "scale": "log-complement"},
    "units": {"low": 4, "high": 8},
    "depth": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8, help="worker processes (default: 8)")
    parser.add_argument("--trials", type=int, default=1600, help="trials of caviar's side a turn (default: 1600)")
    parser.add_argument("--stock-trials", type=int, default=160, help="trials of stock Optuna a turn (default: 160)")
    parser.add_argument("--epoch-ms", type=float, default=1.0, help="simulated training of an epoch (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every side (default: 3)")
    parser.add_argument(
        "--sides",
        default="caviar-postgresql,stock-postgresql",
        help="caviar or stock, then sqlite or postgresql (default: caviar-postgresql,stock-postgresql)",
    )
    arguments = parser.parse_args()
    sides: list[str] = arguments.sides.split(",")
    rates: dict[str, list[float]] = {}
    print(f"{'side':22}{'workers':>8}{'trials':>8}{'seconds':>9}{'trials/s':>10}{'load before':>13}")
    with contextlib.ExitStack() as stack:
        wanted = any(side.endswith("postgresql") for side in sides)
        server = stack.enter_context(running_server()) if wanted else None
        for _ in range(arguments.rounds):
            for side in sides:
                rates.setdefault(side, []).append(measure(side, server, arguments))
    for side, found in rates.items():
        shares = ", ".join(f"{found_ / other:.2f}" for found_, other in zip(found, rates[sides[-1]], strict=True))
        print(f"{side:22}median {statistics.median(found):.1f} trials/s; against {sides[-1]}, turn by turn: {shares}")


def measure(side: str, server: Server | None, arguments: argparse.Namespace) -> float:
    """Have all workers run a study at once, and return its trials a second."""
    way, _, kind = side.partition("-")
    n_trials = arguments.trials if way == "caviar" else arguments.stock_trials
    spec = make_spec(n_trials, workers=arguments.workers)
    load = os.getloadavg()[0]
    with fresh_database(kind, server) as url:
        storage = open_storage(url, owner=new_owner(), create=True)
        create_study(storage, spec, attributes={})
        spawn = multiprocessing.get_context("spawn")
        barrier, ended = spawn.Barrier(arguments.workers + 1), spawn.Queue()
        share = n_trials // arguments.workers
        given = (way, url, spec, share, arguments.epoch_ms / 1000, barrier, ended)
        processes = [spawn.Process(target=work, args=given) for _ in range(arguments.workers)]
        for process in processes:
            process.start()
        barrier.wait(timeout=600)
        started = time.monotonic()
        for _ in processes:
            ended.get(timeout=1800)
        seconds = time.monotonic() - started
        for process in processes:
            process.join()
        states = [trial.state for trial in optuna.load_study(study_name="load", storage=storage).get_trials()]
        storage.engine.dispose()
    complete = states.count(TrialState.COMPLETE)
    assert complete == len(states) == n_trials, f"{complete} of {len(states)} trials are complete, not {n_trials}"
    print(f"{side:22}{arguments.workers:8}{complete:8}{seconds:9.1f}{complete / seconds:10.1f}{load:13.1f}", flush=True)
    return complete / seconds


@contextlib.contextmanager
def fresh_database(kind: str, server: Server | None) -> Iterator[str]:
    if kind == "postgresql":
        assert server is not None
        with server.database() as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as directory:
        yield f"sqlite:///{Path(directory) / 'optuna.db'}"


def make_spec(trials: int, *, workers: int) -> StudySpec:
    return parse_spec(
        {
            "name": "load",
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": EPOCHS},
            "search": {"trials": trials, "workers": workers, "sampler": "random", "pruner": "none"},
            "space": SPACE,
        }
    )


def work(way: str, url: str, spec: StudySpec, share: int, epoch_s: float, barrier: Barrier, ended: Any) -> None:
    """Be one worker: get ready, wait for the others, and run trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("caviar").setLevel(logging.WARNING)
    if way == "stock":
        study = optuna.load_study(
            study_name="load",
            storage=url,
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )
        barrier.wait(timeout=600)
        study.optimize(lambda trial: train(trial, epoch_s), n_trials=share)
    else:
        objective = KerasObjective("tests.toy_data:blobs", epochs=EPOCHS, space=SPACE)
        storage = open_storage(url, owner=new_owner())
        made = Made(storage, spec, objective, plan=PairPlan(size=LANES, most_in_hand=2 * LANES))
        barrier.wait(timeout=600)
        made.work(lambda _epoch, lanes: time.sleep(epoch_s * len(lanes)))
    ended.put(way)


def train(trial: optuna.Trial, epoch_s: float) -> float:
    """Be a stock objective of the same space and as many reports."""
    trial.suggest_float("learning_rate", 1e-3, 0.3, log=True)
    trial.suggest_float("one_minus_momentum", 0.01, 0.5, log=True)
    trial.suggest_int("units", 4, 8)
    for epoch in range(EPOCHS):
        time.sleep(epoch_s)
        trial.report(epoch / EPOCHS, epoch)
        trial.should_prune()
    return 0.5


if __name__ == "__main__":
    main()
