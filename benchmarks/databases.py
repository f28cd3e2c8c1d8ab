"""What PostgreSQL costs a whole study: `caviar run` of fleets on the digits, on PostgreSQL and on SQLite in turn.

Run from the project's root: ``python -m benchmarks.databases`` (some minutes on 2 cores). A study runs with real
training, start-up included; MLflow's store is a file of the home on both sides. The server is Debian's, on
the same machine, so it takes its share of the cores. What it measures stands in docs/scale.md.
"""

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from tests.postgresql import running_server
from tests.processes import running, write_study

from caviar.spec import SearchSpec

SIDES = ("sqlite", "postgresql")


def seconds_of(side: str, file: Path, *, server_url: str, turn: Path) -> float:
    """Run a study in a home of its own; return the seconds that the command took."""
    storage = ("--storage", server_url) if side == "postgresql" else ()
    began_s = time.monotonic()
    with running("run", file, "--home", turn, *storage) as run:
        ended = run.finish(timeout_s=900)
    assert ended.exit_code == 0, ended.stderr
    return time.monotonic() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="a study file (default: random search among networks of 8 units)")
    parser.add_argument("--trials", type=int, default=768, help="budget of that search (default: 768)")
    parser.add_argument("--rounds", type=int, default=4, help="turns of both sides after a first one (default: 4)")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    took: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server())
        toy = {"trials": arguments.trials, "workers": 2, "epochs": 20, "trainer": "fleet", "dataset": "digits"}
        file = write_study(Path(name), **toy, lease_s=SearchSpec.lease_s)
        file.write_text(file.read_text("utf-8").replace("tests.toy_data:digits", "digits"), "utf-8")
        file = arguments.study.absolute() if arguments.study else file
        for index in range(arguments.rounds + 1):
            for side in SIDES[:: -1 if index % 2 else 1]:
                with server.database() as url:
                    seconds = seconds_of(side, file, server_url=url, turn=Path(name) / f"{index}-{side}")
                print(f"{side:12}{seconds:7.1f} s{'  (to warm up)' if index == 0 else ''}", flush=True)
                if index:
                    took[side].append(seconds)
    ratios = [ours / file_s for ours, file_s in zip(took["postgresql"], took["sqlite"], strict=True)]
    shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"postgresql to sqlite, turn by turn: {shown}; median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
