"""A turn: all workers of one side run a study of simulated training at once, on a fresh database."""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
import psutil
import sqlalchemy
from optuna.trial import TrialState
from tests.postgresql import GIVEN, Server, running_server
from tests.worker.fakes import Made, PairPlan

from caviar import KerasObjective
from caviar.packing.planning import SoloPlan
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
HEADING = f"{'side':22}{'workers':>8}{'trials':>8}{'seconds':>9}{'trials/s':>10}{'load before':>13}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """One study that all workers of one side run at once.

    Attributes:
        side: ``caviar`` or ``stock``, then ``-sqlite`` or ``-postgresql``.
        workers: Processes.
        trials: The study's budget; stock Optuna's workers take equal shares of it.
        epoch_s: Seconds of sleep that take the place of one trial's epoch.
        lanes: Trials of a caviar fleet, which sleeps as many times as long; 1 is the worker of one trial at a time.
    """

    side: str
    workers: int
    trials: int
    epoch_s: float
    lanes: int = LANES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally:
    """What the workers of a turn used, all together: seconds of CPU, committed transactions and statements."""

    cpu_s: float
    commits: int
    statements: int

    def __sub__(self, before: "Tally") -> "Tally":
        return Tally(
            cpu_s=self.cpu_s - before.cpu_s,
            commits=self.commits - before.commits,
            statements=self.statements - before.statements,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a turn took.

    Attributes:
        trials: How many were run.
        seconds: From the moment in which all workers were ready until the last one had ended.
        load: The machine's load average before.
        used: By the workers.
        server_cpu_s: Seconds of CPU of all of the server's processes; None for SQLite, or for a server that is given.
    """

    trials: int
    seconds: float
    load: float
    used: Tally
    server_cpu_s: float | None

    @property
    def rate(self) -> float:
        """Trials a second."""
        return self.trials / self.seconds


@contextlib.contextmanager
def server_for(sides: Sequence[str]) -> Iterator[Server | None]:
    """Run a server if a side needs one."""
    with contextlib.ExitStack() as stack:
        wanted = any(side.endswith("postgresql") for side in sides)
        yield stack.enter_context(running_server()) if wanted else None


def line_of(turn: Turn, outcome: Outcome) -> str:
    """Return a turn as a line below ``HEADING``."""
    took = f"{outcome.seconds:9.1f}{outcome.rate:10.1f}{outcome.load:13.1f}"
    return f"{turn.side:22}{turn.workers:8}{outcome.trials:8}{took}"


def measure(turn: Turn, server: Server | None) -> Outcome:
    """Have all workers run a study at once, on a fresh database.

    Raises:
        AssertionError: If the study has another number of trials than it should, or some are not complete.
    """
    kind = turn.side.partition("-")[2]
    spec = make_spec(turn.trials, workers=turn.workers)
    load = os.getloadavg()[0]
    with fresh_database(kind, server) as url:
        storage = open_storage(url, owner=new_owner(), create=True)
        create_study(storage, spec, attributes={})
        context = multiprocessing.get_context("forkserver")  # that has imported it all, so that workers start at once
        context.set_forkserver_preload(["tests.worker.fakes", "tests.postgresql"])
        barrier, ended = context.Barrier(turn.workers + 1), context.Queue()
        processes = [context.Process(target=work, args=(turn, url, spec, barrier, ended)) for _ in range(turn.workers)]
        for process in processes:
            process.start()
        barrier.wait(timeout=600)
        server_before, started = server_cpu_s(storage.engine), time.monotonic()
        tallies = [ended.get(timeout=1800) for _ in processes]
        seconds, server_after = time.monotonic() - started, server_cpu_s(storage.engine)
        for process in processes:
            process.join()
        states = [trial.state for trial in optuna.load_study(study_name="load", storage=storage).get_trials()]
        storage.engine.dispose()
    complete = states.count(TrialState.COMPLETE)
    assert complete == len(states) == turn.trials, f"{complete} of {len(states)} are complete, not {turn.trials}"
    used = Tally(
        cpu_s=sum(tally.cpu_s for tally in tallies),
        commits=sum(tally.commits for tally in tallies),
        statements=sum(tally.statements for tally in tallies),
    )
    served_s = None if server_before is None or server_after is None else server_after - server_before
    return Outcome(trials=complete, seconds=seconds, load=load, used=used, server_cpu_s=served_s)


def server_cpu_s(engine: sqlalchemy.Engine) -> float | None:
    """Return the CPU seconds so far of a server's processes, those that ended included; None for what is not ours."""
    if engine.dialect.name == "sqlite" or GIVEN:
        return None
    with engine.connect() as connection:
        pid = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one()
    server = psutil.Process(pid).parent()
    assert server is not None
    total: float = 0.0
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    ended = server.cpu_times()
    return total + float(ended.children_user + ended.children_system)


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


def work(turn: Turn, url: str, spec: StudySpec, barrier: Barrier, ended: Any) -> None:
    """Be one worker: get ready, wait for the others, run trials, and say in ``ended`` what it took."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("caviar").setLevel(logging.WARNING)
    tally = counting_tally()
    if turn.side.startswith("stock"):
        study = optuna.load_study(
            study_name="load",
            storage=url,
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )
        barrier.wait(timeout=600)
        before = tally()
        study.optimize(lambda trial: train(trial, turn.epoch_s), n_trials=turn.trials // turn.workers)
    else:
        objective = KerasObjective("tests.toy_data:blobs", epochs=EPOCHS, space=SPACE)
        storage = open_storage(url, owner=new_owner())
        plan = SoloPlan() if turn.lanes == 1 else PairPlan(size=turn.lanes, most_in_hand=2 * turn.lanes)
        made = Made(storage, spec, objective, plan=plan)
        barrier.wait(timeout=600)
        before = tally()
        made.work(lambda _epoch, lanes: time.sleep(turn.epoch_s * len(lanes)))
    ended.put(tally() - before)


def counting_tally() -> Callable[[], Tally]:
    """Count transactions and statements of all engines of this process from now on; the result tells them, and CPU."""
    counted: Counter[str] = Counter()
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", lambda _connection: counted.update(["commits"]))
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", lambda *_: counted.update(["statements"]))
    return lambda: Tally(cpu_s=time.process_time(), commits=counted["commits"], statements=counted["statements"])


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
