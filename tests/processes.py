"""Studies run by real processes, watched from outside and disturbed on purpose; benchmarks/storm.py uses it too."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import optuna
import psutil
from click.testing import CliRunner, Result
from optuna.trial import TrialState

from caviar.attributes import DEATHS
from caviar.errors import StorageError
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.overview import count_epochs, count_trials, read_leases
from caviar.storage.studies import open_study

from .warm_process import WarmProcess

if TYPE_CHECKING:
    from mlflow.entities import Run

_T = TypeVar("_T")

ROOT = Path(__file__).parent.parent
STUDY = """# Trials of milliseconds, so that what is tested is what happens around them.
name = "toy"
[data]
dataset = "tests.toy_data:{dataset}"
[objective]
epochs = {epochs}
[search]
trials = {trials}
workers = {workers}
sampler = "{sampler}"
pruner = "none"
lease_s = {lease_s}
checkpoint_s = {checkpoint_s}
trainer = "{trainer}"
[space]
learning_rate = {{ low = 1e-3, high = 0.5, scale = "log" }}
momentum = {{ low = 0.5, high = 0.99, scale = "log-complement" }}
depth = 1
units = 8
"""


def write_study(
    path: Path,
    *,
    trials: int = 4,
    workers: int = 1,
    epochs: int = 3,
    sampler: str = "random",
    lease_s: float = 2.0,
    checkpoint_s: float = 30.0,
    trainer: str = "auto",
    dataset: str = "blobs",
) -> Path:
    """Write the study file ``toy.toml`` into a directory."""
    file = path / "toy.toml"
    file.write_text(
        STUDY.format(
            trials=trials,
            workers=workers,
            epochs=epochs,
            sampler=sampler,
            lease_s=lease_s,
            checkpoint_s=checkpoint_s,
            trainer=trainer,
            dataset=dataset,
        )
    )
    return file


def environment() -> dict[str, str]:
    found = filter(None, [str(ROOT / "plugin"), str(ROOT), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended."""

    exit_code: int
    stdout: str
    stderr: str


class Caviar:
    """A running ``caviar``, in a session of its own; its output goes to files, so that no pipe ever fills.

    Args:
        arguments: The verb and what follows it.
        within: What the command is put behind, to run it in a network of its own, say.
        warm: Whether it is forked from a process that has loaded what it needs, so that it starts in no time.
    """

    def __init__(self, *arguments: str | Path, within: Sequence[str] = (), warm: bool = False) -> None:
        self._files = tuple(tempfile.NamedTemporaryFile() for _ in range(2))  # noqa: SIM115  (closed by close)
        words, out_and_err = [str(argument) for argument in arguments], [file.name for file in self._files]
        self._process: subprocess.Popen[bytes] | WarmProcess
        if warm:
            self._process = WarmProcess(words, directory=ROOT, environment=environment(), outputs=out_and_err)
        else:
            out, err = self._files
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", "caviar", *words],
                cwd=ROOT,
                env=environment(),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stderr(self) -> str:
        """Return what it has written so far."""
        return self._output().stderr

    def finish(self, *, timeout_s: float = 180.0) -> Ended:
        """Wait for the end; what takes too long is an error."""
        try:
            exit_code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"It did not end within {timeout_s} s: {self._output()}") from None
        return self._output(exit_code)

    def kill_all(self) -> None:
        """Kill it with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _output(self, exit_code: int = -1) -> Ended:
        texts = []
        for file in self._files:
            size = os.fstat(file.fileno()).st_size
            texts.append(os.pread(file.fileno(), size, 0).decode())  # a seek would move where the process writes
        return Ended(exit_code=exit_code, stdout=texts[0], stderr=texts[1])

    def close(self) -> None:
        self.kill_all()
        for file in self._files:
            file.close()


@contextlib.contextmanager
def running(*arguments: str | Path, within: Sequence[str] = (), warm: bool = False) -> Iterator[Caviar]:
    """Start ``caviar`` as `Caviar` says, and leave nothing of it behind."""
    process = Caviar(*arguments, within=within, warm=warm)
    try:
        yield process
    finally:
        process.close()


class CaviarHere:
    """A ``caviar`` whose supervisor is a thread of this process, so that all of them share one fork server.

    Loading TensorFlow for a run of its own takes most of its time. What the workers write is not seen here.

    Args:
        arguments: The verb and what follows it.
    """

    def __init__(self, *arguments: str | Path) -> None:
        self._result: Result | None = None
        self._arguments = [str(argument) for argument in arguments]
        self._thread = threading.Thread(target=self._run, name="caviar", daemon=True)
        self._thread.start()

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def finish(self, *, timeout_s: float = 180.0) -> Ended:
        """Wait for the end; what takes too long is an error."""
        self._thread.join(timeout_s)
        assert self._result is not None, f"It did not end within {timeout_s} s."
        result = self._result
        return Ended(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    def close(self) -> None:
        """Kill its workers until it gives up."""
        while self._thread.is_alive():
            for worker in multiprocessing.active_children():
                worker.kill()
            self._thread.join(0.2)

    def _run(self) -> None:
        from caviar.cli import main

        self._result = CliRunner().invoke(main, self._arguments)


@contextlib.contextmanager
def running_here(*arguments: str | Path) -> Iterator[CaviarHere]:
    """Start ``caviar`` in this process and leave nothing of it behind."""
    process = CaviarHere(*arguments)
    try:
        yield process
    finally:
        process.close()


def wait_until(what: Callable[[], _T], *, timeout_s: float = 60.0, poll_s: float = 0.05) -> _T:
    """Call a function until it returns something that is true, with a deadline; return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(poll_s)
    return found


class Watch:
    """A study seen from outside, from before it is created on; the addresses are the home's own unless given."""

    def __init__(self, home: Path, name: str = "toy", *, storage: str = "", tracking_uri: str = "") -> None:
        self._home = home
        self._name = name
        self.url = storage or f"sqlite:///{home / 'optuna.db'}"
        self._tracking_uri = tracking_uri or f"sqlite:///{home / 'mlflow.db'}"
        self._study: optuna.Study | None = None
        self._storage: LeasedStorage | None = None

    @property
    def storage(self) -> LeasedStorage:
        assert self._open()
        assert self._storage is not None
        return self._storage

    @property
    def study(self) -> optuna.Study:
        assert self._open()
        assert self._study is not None
        return self._study

    def count(self, *states: TrialState) -> int:
        if not self._open():
            return 0
        counts = count_trials(self.storage, self.study._study_id)
        return sum(counts[state] for state in states)

    def finished(self) -> int:
        return self.count(TrialState.COMPLETE, TrialState.PRUNED)

    def holders(self) -> dict[int, int]:
        """Return who holds which trial: trial id → process id."""
        if not self._open():
            return {}
        leases = read_leases(self.storage, self.study._study_id)
        return {lease.trial_id: int(lease.owner.split(":")[1]) for lease in leases}

    def reported(self) -> int:
        return count_epochs(self.storage, self.study._study_id) if self._open() else 0

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False) if self._open() else []

    def deaths(self) -> int:
        return sum(trial.system_attrs.get(DEATHS, 0) for trial in self.trials())

    def integrity(self) -> str:
        """Return what SQLite says of its file; a server looks after its own."""
        if not self.url.startswith("sqlite:"):
            return "ok"
        with contextlib.closing(sqlite3.connect(self._home / "optuna.db")) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        return str(answer)

    def runs_by_trial(self) -> Counter[int]:
        """Return how many runs MLflow has of each trial."""
        return Counter(int(run.data.tags["caviar.trial_number"]) for run in self.runs())

    def runs(self) -> "list[Run]":
        from caviar.record.tracking import connect

        client = connect(self._tracking_uri)
        experiment = client.get_experiment_by_name(self._name)
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=5000))

    def _open(self) -> bool:
        if self._study is None:
            try:
                self._storage = open_storage(self.url, owner=new_owner())
                self._study = open_study(self._storage, self._name)
            except StorageError:
                return False
        return True


def pids_below(pid: int) -> set[int]:
    """Return the processes that one has started, and those that these have."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def kill_holders(watch: Watch, process: Caviar | CaviarHere, *, every: int, at_most: int | None = None) -> list[int]:
    """Kill a worker that holds a begun trial after every so many finished trials, until the run ends.

    A death between a claim and a first epoch would be blamed on no trial. Between two kills some epoch is stored: three
    deaths without one end a run.

    Returns:
        The killed processes.
    """
    killed: list[int] = []
    epochs_at_kill = -1
    while not process.ended():
        due = watch.finished() // every
        if len(killed) < due and (at_most is None or len(killed) < at_most):
            trials = watch.trials()
            begun, epochs = {t._trial_id for t in trials if t.params}, sum(len(t.intermediate_values) for t in trials)
            victims = [pid for trial_id, pid in watch.holders().items() if trial_id in begun and pid not in killed]
            if victims and epochs > epochs_at_kill:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victims[0], signal.SIGKILL)
                    killed.append(victims[0])
                    epochs_at_kill = epochs
        time.sleep(0.02)
    return killed
