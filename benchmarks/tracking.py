"""What MLflow costs a search: four workers with tracking and without, over a SQLite file, HTTP and PostgreSQL.

Run from the project's root: ``python -m benchmarks.tracking`` (some minutes on 2 cores). The sides take turns, so that
other work on the machine meets all of them. Every worker is forked from `caviar run`'s own fork server and waits
for the start, with a real storage and a real mirror; training is a pause (``--training pause``, the default) or
TensorFlow's (``solo`` or ``fleet``). Pauses show who waits for whom; with real training, what MLflow's client computes
takes its share of the cores, and so does a server on this machine.
PostgreSQL takes part where Debian's server is installed, or ``CAVIAR_TEST_POSTGRESQL`` names one.
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import postgresql
from tests.record.remote import mlflow_server
from tests.worker.fakes import Made

from caviar import KerasObjective
from caviar.commands.run import new_study_attributes
from caviar.data.dataset import DatasetFacts
from caviar.engines.fork_server import start_fork_server
from caviar.record.background import in_background
from caviar.record.tracking import connect, prepare_tracking
from caviar.spec import StudySpec, parse_spec
from caviar.storage.addresses import masked
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import create_study
from caviar.worker.opening import open_mirror

if TYPE_CHECKING:
    from caviar.storage.leased_storage import LeasedStorage

EPOCHS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of a side took, in seconds, and what MLflow lacked at its end.

    ``search_s`` is the time until the last trial was stored, ``wall_s`` until the last worker had ended.
    """

    side: str
    search_s: float
    wall_s: float
    missing: int
    load: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=96, help="budget of each study")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all sides")
    parser.add_argument("--training", choices=("pause", "solo", "fleet"), default="pause")
    parser.add_argument("--epoch-s", type=float, default=0.1, help="seconds of an epoch, if training is a pause")
    parser.add_argument(
        "--server-nice", type=int, default=10, help="niceness of the server, which is elsewhere in life"
    )
    parser.add_argument(
        "--no-preload", action="store_true", help="have each worker import mlflow itself, as before 2026-11-27"
    )
    parser.add_argument("--one", nargs=2, metavar=("HOME", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        home = locate_home(Path(arguments.one[0]), tracking_uri=os.environ["CAVIAR_TRACKING"])
        print(json.dumps(dataclasses.asdict(search(home, arguments.one[1], arguments))))
        return
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        stores = dict(open_stores(Path(name), stack, arguments))
        outcomes: list[Outcome] = []
        sides = list(stores)
        for turn in range(arguments.rounds):
            for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
                outcomes.append(run_side(Path(name) / f"{turn}-{side}", side, stores[side]))
                print(dataclasses.asdict(outcomes[-1]), file=sys.stderr, flush=True)
        report(outcomes, sides, arguments)


def open_stores(
    directory: Path, stack: contextlib.ExitStack, arguments: argparse.Namespace
) -> Iterator[tuple[str, str]]:
    """Yield a side's name and MLflow's address; a file's, which every run has of its own, is a template."""
    template = directory / "template.db"
    prepare_tracking(f"sqlite:///{template}")
    yield "none", ""
    yield "sqlite", str(template)
    served = directory / "served.db"
    shutil.copy(template, served)
    port = stack.enter_context(mlflow_server(directory, store=f"sqlite:///{served}", nice=arguments.server_nice))
    yield "http", f"http://127.0.0.1:{port}"
    if not postgresql.why_not():
        url = stack.enter_context(stack.enter_context(postgresql.running_server()).database())
        connect(url).search_experiments(max_results=1)
        yield "postgresql", url


def make_spec(home: Home, arguments: argparse.Namespace) -> StudySpec:
    trainer = "fleet" if arguments.training == "fleet" else "solo"
    search = {"trials": arguments.trials, "workers": arguments.workers, "sampler": "random", "pruner": "none"}
    return parse_spec(
        {
            "name": home.path.name,
            "data": {"dataset": "digits"},
            "objective": {"epochs": EPOCHS},
            "search": {**search, "trainer": trainer},
        }
    )


def open_made(home: Home, arguments: argparse.Namespace, *, create: bool) -> Made:
    spec = make_spec(home, arguments)
    storage: LeasedStorage = open_storage(home.storage, owner=new_owner(), create=create)
    objective = KerasObjective("digits", epochs=EPOCHS, space=spec.space)
    if create:
        create_study(storage, spec, attributes=new_study_attributes(DatasetFacts.of(objective.dataset)))
    return Made(storage, spec, objective)


def work(home: Home, side: str, arguments: argparse.Namespace, channel: Connection) -> None:
    """Be one worker: say that it is ready, begin when told to, and say when the last trial was stored."""
    made = open_made(home, arguments, create=False)
    channel.send("ready")
    channel.recv()
    with in_background(open_mirror(home, made.study, made.spec) if side != "none" else None) as mirror:
        made.options["mirror"] = mirror
        if arguments.training == "pause":
            made.work(lambda _epoch, _lanes: time.sleep(arguments.epoch_s))
        else:
            train(made)
        searched_s = time.time()
    channel.send(searched_s)


def train(made: Made) -> None:
    from caviar.engines.work import make_crew, prepare_devices
    from caviar.worker.worker_setup import WorkerSetup

    prepare_devices(threads=1)
    needed: dict[str, Any] = dict.fromkeys(("make_sampler", "pruner", "checkpoints", "stop"))
    setup = WorkerSetup(study=made.study, storage=made.storage, spec=made.spec, objective=made.objective, **needed)
    made.work_with(make_crew(setup, threads=1))


def run_side(path: Path, side: str, store: str) -> Outcome:
    """Run one side in a process of its own, since a process has one fork server."""
    path.mkdir()
    tracking_uri = store
    if side in ("none", "sqlite"):
        tracking_uri = f"sqlite:///{path / 'mlflow.db'}"
        shutil.copy(store or path.parent / "template.db", path / "mlflow.db")
    command = [sys.executable, "-m", "benchmarks.tracking", *sys.argv[1:], "--one", str(path), side]
    environment = {**os.environ, "CAVIAR_TRACKING": tracking_uri}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def search(home: Home, side: str, arguments: argparse.Namespace) -> Outcome:
    """Start workers, let them search once all are ready, and look at what MLflow has in the end."""
    start_fork_server(None if side == "none" or arguments.no_preload else home.tracking_uri)
    made = open_made(home, arguments, create=True)
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("forkserver")
    pipes = [context.Pipe() for _ in range(arguments.workers)]
    workers = [context.Process(target=work, args=(home, side, arguments, theirs)) for _, theirs in pipes]
    for worker in workers:
        worker.start()
    channels = [ours for ours, _ in pipes]
    assert [channel.recv() for channel in channels] == ["ready"] * len(workers)
    began_s = time.time()
    for channel in channels:
        channel.send("go")
    searched_s = max(channel.recv() for channel in channels)
    for worker in workers:
        worker.join()
    wall_s = time.time() - began_s
    trials = made.study.get_trials(deepcopy=False)
    assert sum(trial.state.is_finished() for trial in trials) == arguments.trials, masked(home.tracking_uri)
    missing = len(open_mirror(home, made.study, made.spec).missing_trials(trials)) if side != "none" else 0
    return Outcome(
        side=side,
        search_s=round(searched_s - began_s, 2),
        wall_s=round(wall_s, 2),
        missing=missing,
        load=round(load, 1),
    )


def report(outcomes: Sequence[Outcome], sides: Sequence[str], arguments: argparse.Namespace) -> None:
    trials, workers = arguments.trials, arguments.workers
    print(f"{trials} trials of {EPOCHS} epochs ({arguments.training}), {workers} workers, {arguments.rounds} rounds")
    print("\n| tracking | search, s | ratio to none | with the drain, s | ratio | MLflow lacked | load |")
    print("|---|---|---|---|---|---|---|")
    of_none = [one for one in outcomes if one.side == "none"]
    for side in sides:
        own = [one for one in outcomes if one.side == side]
        cells = [side]
        for name in ("search_s", "wall_s"):
            ratios = [getattr(a, name) / getattr(b, name) for a, b in zip(own, of_none, strict=True)]
            cells.append(spread([getattr(one, name) for one in own], 1))
            cells.append(spread(ratios, 3))
        cells.append(str(max(one.missing for one in own)))
        cells.append(spread([one.load for one in own], 1))
        print(f"| {' | '.join(cells)} |")


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
