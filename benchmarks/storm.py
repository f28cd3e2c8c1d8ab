"""The large storm: workers that hold a trial are killed again and again, and the budget must come out exact.

Run from the project's root: ``python -m benchmarks.storm`` (about ten minutes on 2 cores). The small one is in
``tests/test_storm.py``. What it measures stands in docs/durability.md.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from optuna.trial import TrialState
from tests.processes import Watch, kill_holders, running, write_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8, help="worker processes (default: 8)")
    parser.add_argument("--trials", type=int, default=400, help="budget (default: 400)")
    parser.add_argument("--kills", type=int, default=50, help="kills, spread over the budget (default: 50)")
    parser.add_argument("--lease-s", type=float, default=5.0, help="lease in seconds (default: 5)")
    parser.add_argument("--trainer", choices=("auto", "solo", "fleet"), default="auto", help="as in a study file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        storm(Path(directory), arguments)


def storm(directory: Path, arguments: argparse.Namespace) -> None:
    trials, workers = arguments.trials, arguments.workers
    file = write_study(
        directory,
        trials=trials,
        workers=workers,
        lease_s=arguments.lease_s,
        sampler="tpe",
        trainer=arguments.trainer,
    )
    watch, started = Watch(directory / "runs"), time.monotonic()
    with running("run", file, "--home", directory / "runs") as process:
        every = max(1, trials // (arguments.kills + 1))
        killed = kill_holders(watch, process, every=every, at_most=arguments.kills)
        ended = process.finish()
    seconds = time.monotonic() - started
    numbers, runs = [trial.number for trial in watch.trials()], watch.runs_by_trial()
    restarted = ended.stderr.count("another takes its place")
    figures = {
        "exit code": ended.exit_code,
        "seconds": round(seconds, 1),
        "finished (COMPLETE + PRUNED)": watch.finished(),
        "RUNNING or WAITING": watch.count(TrialState.RUNNING, TrialState.WAITING),
        "FAIL (its worker died three times)": watch.count(TrialState.FAIL),
        "trials a minute": round(60 * watch.finished() / seconds, 1),
        "workers killed": len(killed),
        "workers restarted": restarted,
        "deaths noticed by an expired lease": watch.deaths(),
        "trial numbers given twice": len(numbers) - len(set(numbers)),
        "trials with more than one run in MLflow": sum(count > 1 for count in runs.values()),
        "trials without a run in MLflow": len(set(numbers) - set(runs)),
        "PRAGMA integrity_check": watch.integrity(),
    }
    for name, value in figures.items():
        print(f"{name:42}{value}")
    sound = figures["finished (COMPLETE + PRUNED)"] == trials and runs == Counter(numbers)
    if not sound or "Traceback" in ended.stderr:
        raise SystemExit(f"The budget was missed, or something else went wrong:\n{ended.stderr[-4000:]}")


if __name__ == "__main__":
    main()
