"""The supervisor: keeps a number of worker processes at work, replaces those that die, and gives up when all do."""

import contextlib
import dataclasses
import enum
import json
import logging
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from optuna.exceptions import StorageInternalError

from ..errors import CaviarError, FatalError

_logger = logging.getLogger(__name__)

#: Deaths in a row, no epoch completed by any worker between them, after which the supervisor gives up.
MAX_DEATHS_IN_A_ROW = 3
_POLL_S = 0.5
_GRACE_S = 30.0


class WorkerExit(enum.IntEnum):
    """How a worker process ends; any other code is a death, 0 too: a trial may have ended the process by it."""

    DONE = 74
    RECYCLE = 75  # it has run its share of trials: a fresh process takes its place
    REFUSED = 76  # it sent its reason up the pipe
    STOPPED = 77  # a signal asked it to leave: its trial was handed back


class WorkerRefusedError(CaviarError):
    """A worker ended with an error of its own, which it explained."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


#: Starts one worker process, and returns it with the connection up which it sends JSON when it refuses.
StartWorker = Callable[[], tuple[BaseProcess, Connection]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervisor:
    """Runs workers until all of them find nothing left to do.

    Attributes:
        n_workers: How many work at once.
        start: Starts one.
        count_epochs: Epochs that all workers of the study have completed so far.
        stop: Set from outside to end the workers, each after its epoch.
        on_poll: Called a few times a second.
    """

    n_workers: int
    start: StartWorker
    count_epochs: Callable[[], int]
    stop: threading.Event
    on_poll: Callable[[], None]

    def run(self) -> None:
        """Work until every worker is done.

        Raises:
            WorkerRefusedError: With the reason of a worker that refused to go on.
            FatalError: If workers keep dying.
        """
        workers: list[tuple[BaseProcess, Connection]] = []
        deaths, epochs_at_death = 0, self._epochs(0)
        asked = False
        try:
            workers.extend(self.start() for _ in range(self.n_workers))
            while workers:
                multiprocessing.connection.wait([process.sentinel for process, _ in workers], timeout=_POLL_S)
                self._look()
                if self.stop.is_set() and not asked:
                    asked = True
                    _signal_all(workers, signal.SIGTERM)
                for worker in [worker for worker in workers if worker[0].exitcode is not None]:
                    workers.remove(worker)
                    if self._has_died(*worker):
                        epochs = self._epochs(epochs_at_death)
                        deaths = deaths + 1 if epochs == epochs_at_death else 1
                        epochs_at_death = epochs
                        self._judge_death(worker[0], deaths)
                    elif worker[0].exitcode == WorkerExit.DONE:
                        continue
                    if not self.stop.is_set():
                        workers.append(self.start())
        except KeyboardInterrupt:  # the second Ctrl-C: the workers' too, where they are not in the terminal's group
            _signal_all(workers, signal.SIGTERM)
            _signal_all(workers, signal.SIGINT)
            raise
        finally:
            _end(workers)
            self._look()

    def _look(self) -> None:
        """Show the progress; what stands in the way of reading it is no reason to end the work."""
        try:
            self.on_poll()
        except (StorageInternalError, KeyError, ValueError) as error:  # locked, or deleted between two queries
            _logger.debug("The progress could not be read: %r", error)

    def _epochs(self, known: int) -> int:
        try:
            return self.count_epochs()
        except StorageInternalError:
            return known

    def _has_died(self, process: BaseProcess, connection: Connection) -> bool:
        if process.exitcode == WorkerExit.REFUSED:
            refusal = _receive(connection)
            raise WorkerRefusedError(refusal["message"], exit_code=refusal["exit_code"])
        connection.close()
        return process.exitcode not in (WorkerExit.DONE, WorkerExit.RECYCLE)

    def _judge_death(self, process: BaseProcess, deaths: int) -> None:
        how = describe_death(process.exitcode)
        if self.stop.is_set():
            return
        if deaths >= MAX_DEATHS_IN_A_ROW:
            raise FatalError(
                f"{deaths} workers died in a row, the last {how}, and no epoch was completed in between. What is done "
                "is kept. Look for a lack of memory (`dmesg`), lower --workers, or try the network with `caviar check`."
            )
        _logger.warning("Worker %s died, %s; another takes its place. Its trial is handed on.", process.pid, how)


def send_refusal(connection: Connection, error: CaviarError) -> None:
    """Tell the supervisor, from a worker, why it ends; JSON, so that nothing is unpickled."""
    with contextlib.suppress(OSError):  # it has died
        connection.send_bytes(json.dumps({"message": str(error), "exit_code": error.exit_code}).encode())


def _receive(connection: Connection) -> dict[str, Any]:
    try:
        received: dict[str, Any] = json.loads(connection.recv_bytes())
    except (EOFError, OSError):
        received = {"message": "A worker refused to go on and could not say why.", "exit_code": 1}
    connection.close()
    return received


def _signal_all(workers: list[tuple[BaseProcess, Connection]], number: signal.Signals) -> None:
    for process, _ in workers:
        if process.pid is not None and process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _end(workers: list[tuple[BaseProcess, Connection]]) -> None:
    """Leave no worker behind: ask, wait, and kill what does not answer."""
    _signal_all(workers, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    for process, connection in workers:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        connection.close()


def describe_death(exit_code: int | None) -> str:
    """Say how a process ended, to follow "it died" or "it ended"."""
    if exit_code == WorkerExit.STOPPED:
        return "asked to leave by a signal"
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    itself = ", ended by the network's own code or what it imports" if exit_code == 0 else ""
    return f"with exit code {exit_code}{itself}"
