"""The engine of processes: workers on this machine, forked from a server that has TensorFlow loaded.

The process that supervises them never loads TensorFlow: the first worker looks at the data, and tells what it knows.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import final

from ..data.dataset import DatasetFacts
from ..errors import DataError, FatalError
from ..spec import StudySpec
from ..storage.home import Home
from .engine import Died, Ending, WorkOrder
from .fork_server import start_fork_server
from .protocol import Channel, LoadData, Refusal, WorkerExit
from .worker_process import enter, get_ready, get_ready_first, take_order


@final
class ProcessWorker:
    """A worker's process, and the channel to it."""

    def __init__(self, process: BaseProcess, channel: Channel) -> None:
        self.process = process
        self.channel = channel

    def ending(self) -> Ending | None:
        """Return how it ended, or None while it works; raises the error that it refused with."""
        match self.process.exitcode:
            case None:
                return None
            case WorkerExit.DONE:
                ending: Ending = "done"
            case WorkerExit.RECYCLE:
                ending = "recycle"
            case WorkerExit.REFUSED:
                answer = self.channel.receive()
                self.channel.close()
                if isinstance(answer, Refusal):
                    raise answer.error()
                raise FatalError("A worker refused to go on and could not say why.")
            case exit_code:
                ending = Died(worker=str(self.process.pid), how=_describe_death(exit_code))
        self.channel.close()
        return ending

    def ask_to_leave(self, *, at_once: bool = False) -> None:
        """Send SIGTERM, and for an end at once SIGINT after it."""
        for number in (signal.SIGTERM, signal.SIGINT) if at_once else (signal.SIGTERM,):
            if self.process.pid is not None and self.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, number)

    def end_by(self, deadline_s: float) -> None:
        """Wait for its end until then; kill it if it has not ended."""
        self.process.join(max(0.0, deadline_s - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.channel.close()


@final
class ProcessEngine:
    """Starts workers in processes of their own; a context that leaves none behind that was given no order.

    Args:
        home: Where the study is kept, if that is known yet: workers import what it takes to write there.
    """

    def __init__(self, home: Home | None = None) -> None:
        start_fork_server(None if home is None else home.tracking_uri)
        self._storage = "" if home is None else home.storage
        self._ready: list[ProcessWorker] = []

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._ready:
            worker.process.terminate()
        for worker in self._ready:
            worker.process.join()
            worker.channel.close()
        self._ready.clear()

    def get_ready(self, spec: StudySpec, *, threads: int, n_workers: int) -> DatasetFacts:
        """Start workers that wait for their order, and return what the first of them knows of the data.

        The others meanwhile measure the machine's prices if these are not known, and load the data after the first.

        Raises:
            CaviarError: If the data cannot be loaded.
        """
        for place in range(n_workers):
            target = get_ready if place else get_ready_first
            self._ready.append(start_process(target, spec, threads, self._storage, name="caviar-ready"))
        first, *others = self._ready
        answer = first.channel.receive()
        if isinstance(answer, Refusal):
            raise answer.error()
        if not isinstance(answer, DatasetFacts):
            first.process.join()
            raise DataError(
                f"The data set {spec.data.dataset!r} could not be loaded: the process that tried ended "
                f"{_describe_death(first.process.exitcode)}. If its function does not do so, look for a lack of memory "
                "(`dmesg`), or try a smaller one."
            )
        for worker in others:
            worker.channel.send(LoadData())
        return answer

    def start(self, order: WorkOrder) -> ProcessWorker:
        """Give an order to a worker that is ready or, if there is none, to a new process."""
        worker = self._ready.pop(0) if self._ready else start_process(take_order, name=f"caviar-{order.study}")
        worker.channel.send(order)
        return worker

    def wait(self, workers: Sequence[ProcessWorker], *, timeout_s: float) -> None:
        """Wait until one of the processes has ended, or for so long."""
        multiprocessing.connection.wait([worker.process.sentinel for worker in workers], timeout=timeout_s)


def start_process(target: Callable[..., None], *arguments: object, name: str) -> ProcessWorker:
    """Start a process from the fork server that calls a function with its end of the channel and the arguments.

    Raises:
        FatalError: If the fork server has ended.
    """
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=enter, args=(target, its, arguments, list(sys.path)), name=name
    )
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise FatalError(
            f"No worker can be started: the process that loads TensorFlow for all of them has ended ({error!r}). "
            f"`{sys.executable} -c 'import tensorflow'` shows whether TensorFlow can be imported; else look for a lack "
            "of memory (`dmesg`)."
        ) from error
    its.close()
    return ProcessWorker(process, Channel(ours))


def _describe_death(exit_code: int | None) -> str:
    """Say how a process ended, to follow "it died" or "it ended"."""
    if exit_code == WorkerExit.STOPPED:
        return "asked to leave by a signal"
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    itself = ": the network's own code, or what it imports, ended it" if exit_code == 0 else ""
    return f"with exit code {exit_code}{itself}"
