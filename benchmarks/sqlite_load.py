"""SQLite under load: many processes report into one file while optuna-dashboard reads it, ours against stock Optuna.

Run from the project's root: ``python -m benchmarks.sqlite_load`` (some minutes on 2 cores). Both ways run in turns,
each on a fresh file. What it measures stands in docs/durability.md.
"""

import argparse
import contextlib
import json
import multiprocessing
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from tests.ports import free_port

from caviar.storage.database import new_owner, open_storage
from caviar.storage.tickets import claim_tickets

REPORTS_A_TRIAL = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=16, help="processes that write (default: 16)")
    parser.add_argument("--reports", type=int, default=500, help="reports of each (default: 500)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each way (default: 2)")
    arguments = parser.parse_args()
    print(f"{'way':8}{'trials/s':>10}{'reports/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}", end="")
    print(f"{'errors':>8}{'polls':>7}{'failed':>8}{'poll p50 ms':>13}  integrity")
    for _ in range(arguments.rounds):
        for way in ("caviar", "stock"):
            with tempfile.TemporaryDirectory() as directory:
                measure(way, Path(directory) / "optuna.db", arguments)


def measure(way: str, path: Path, arguments: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url, n_processes = f"sqlite:///{path}", arguments.processes
    trials = arguments.reports // REPORTS_A_TRIAL
    storage = open_storage(url, owner=new_owner(), create=True) if way == "caviar" else RDBStorage(url)
    optuna.create_study(storage=storage, study_name="load", direction="maximize")
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(n_processes + 1), spawn.Queue()
    processes = [
        spawn.Process(target=write, args=(way, url, trials, n_processes * trials, barrier, results))
        for _ in range(n_processes)
    ]
    for process in processes:
        process.start()
    with polled_dashboard(url) as polls:
        barrier.wait(timeout=300)
        started = time.monotonic()
        done = [results.get(timeout=1800) for _ in processes]
        seconds = time.monotonic() - started
    for process in processes:
        process.join()
    latencies = sorted(1000 * latency for latencies, _, _ in done for latency in latencies)
    n_trials, errors = sum(n for _, n, _ in done), [error for _, _, errors in done for error in errors]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    percentile = [latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99, 1.0)]
    print(f"{way:8}{n_trials / seconds:10.1f}{len(latencies) / seconds:11.0f}", end="")
    print("".join(f"{value:9.1f}" for value in percentile), end="")
    print(f"{len(errors):8}{len(polls.times_s):7}{polls.failed:8}", end="")
    print(f"{1000 * statistics.median(polls.times_s or [0.0]):13.0f}  {integrity}", flush=True)
    for error in sorted(set(errors)):
        print(f"         {errors.count(error)} × {error}")


def write(way: str, url: str, trials: int, budget: int, barrier: Barrier, results: Any) -> None:
    """Run trials of nothing but bookkeeping: three parameters, the reports, the end."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url, owner=new_owner()) if way == "caviar" else RDBStorage(url)
    study = optuna.load_study(study_name="load", storage=storage, sampler=optuna.samplers.RandomSampler())
    latencies, errors, ended = [], [], 0
    barrier.wait(timeout=300)
    for _ in range(trials):
        try:
            trial = begin_trial(way, study, storage, budget)
            for name in ("learning_rate", "one_minus_momentum", "units"):
                trial.suggest_float(name, 1e-4, 1.0, log=True)
            for step in range(REPORTS_A_TRIAL):
                before = time.perf_counter()
                trial.report(step / REPORTS_A_TRIAL, step)
                latencies.append(time.perf_counter() - before)
            study.tell(trial, 0.5)
            ended += 1
        except Exception as error:  # noqa: BLE001  what goes wrong is what is counted
            errors.append(f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
    results.put((latencies, ended, errors))


def begin_trial(way: str, study: optuna.Study, storage: Any, budget: int) -> optuna.Trial:
    if way == "stock":
        return study.ask()
    tickets = claim_tickets(storage, study._study_id, n=1, budget=budget, lease_s=300, retries=2)
    assert not isinstance(tickets, str), tickets
    study.get_trials(deepcopy=False)
    return optuna.Trial(study, tickets[0].trial_id)


class Polls:
    """What the dashboard answered: the seconds of each answer, and how many were refused."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.failed = 0


@contextlib.contextmanager
def polled_dashboard(url: str) -> Iterator[Polls]:
    """Run the real optuna-dashboard, and ask it for the study twice a second, as two open browsers do."""
    port = free_port()
    base, polls, done = f"http://127.0.0.1:{port}/api/studies", Polls(), threading.Event()
    program = Path(sys.executable).with_name("optuna-dashboard")
    with subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", str(port), url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            study_id = wait_for_study(base)

            def poll() -> None:
                while not done.wait(0.5):
                    before = time.monotonic()
                    try:
                        read(f"{base}/{study_id}?after=0")
                        polls.times_s.append(time.monotonic() - before)
                    except OSError:
                        polls.failed += 1

            thread = threading.Thread(target=poll)
            thread.start()
            yield polls
            done.set()
            thread.join()
        finally:
            done.set()
            server.terminate()


def wait_for_study(base: str) -> int:
    deadline = time.monotonic() + 120
    while True:
        try:
            return int(read(base)["study_summaries"][0]["study_id"])
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def read(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=120) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
