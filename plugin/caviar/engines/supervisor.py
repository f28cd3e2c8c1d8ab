"""The supervisor: keeps a number of workers at work, replaces those that die, and gives up when all do."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from optuna.exceptions import StorageInternalError

from ..errors import FatalError
from .engine import Died, Engine, WorkerT, WorkOrder

_logger = logging.getLogger(__name__)

#: Deaths in a row, with no epoch completed by any worker between them, after which the supervisor gives up.
_MAX_DEATHS_IN_A_ROW: Final = 3
_POLL_S: Final = 0.5
_GRACE_S: Final = 30.0
_REPLACED: Final = "Worker %s died, %s; another takes its place and its trials."


def supervise(
    engine: Engine[WorkerT],
    order: WorkOrder,
    *,
    n_workers: int,
    count_epochs: Callable[[], int],
    stop: threading.Event,
    on_poll: Callable[[], None],
) -> None:
    """Work until no worker finds anything left to do.

    Args:
        engine: Starts the workers.
        order: What each of them is told.
        n_workers: How many work at once.
        count_epochs: Epochs that all workers of the study have completed so far.
        stop: Set from outside to end the workers, each after its epoch.
        on_poll: Called a few times a second.

    Raises:
        CaviarError: The error of a worker that refused to go on.
        FatalError: If workers keep dying.
    """
    workers: list[WorkerT] = []
    deaths, epochs_at_death = 0, _count(count_epochs, known=0)
    asked = False
    try:
        workers.extend(engine.start(order) for _ in range(n_workers))
        while workers:
            engine.wait(workers, timeout_s=_POLL_S)
            _poll(on_poll)
            if stop.is_set() and not asked:
                asked = True
                for worker in workers:
                    worker.ask_to_leave()
            for worker in list(workers):
                ending = worker.ending()
                if ending is None:
                    continue
                workers.remove(worker)
                if ending == "done" or stop.is_set():
                    continue
                if isinstance(ending, Died) and ending.with_machine:
                    _logger.warning(_REPLACED, ending.worker, ending.how)
                elif isinstance(ending, Died):
                    epochs = _count(count_epochs, known=epochs_at_death)
                    deaths = deaths + 1 if epochs == epochs_at_death else 1
                    epochs_at_death = epochs
                    _judge_death(ending, deaths)
                workers.append(engine.start(order))
    except KeyboardInterrupt:  # the second Ctrl-C: pass it on to workers outside the terminal's process group
        for worker in workers:
            worker.ask_to_leave(at_once=True)
        raise
    finally:
        for worker in workers:
            worker.ask_to_leave()
        deadline_s = time.monotonic() + _GRACE_S
        for worker in workers:
            worker.end_by(deadline_s)
        _poll(on_poll)


def _poll(on_poll: Callable[[], None]) -> None:
    """Show the progress; a failed read must not stop the run."""
    try:
        on_poll()
    except (StorageInternalError, KeyError, ValueError) as error:  # locked, or deleted between two queries
        _logger.debug("The progress could not be read: %r", error)


def _count(count_epochs: Callable[[], int], *, known: int) -> int:
    try:
        return count_epochs()
    except StorageInternalError:
        return known


def _judge_death(death: Died, deaths: int) -> None:
    if deaths >= _MAX_DEATHS_IN_A_ROW:
        raise FatalError(
            f"{deaths} workers died in a row, the last {death.how}, and no epoch was completed in between. Finished "
            "trials are kept. Look for a lack of memory (`dmesg`), lower --workers, or try the network with "
            "`caviar check`."
        )
    _logger.warning(_REPLACED, death.worker, death.how)
