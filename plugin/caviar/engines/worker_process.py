"""One worker's process: how it gets ready, how it is asked to leave, and how it says why it ended."""

import contextlib
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

import optuna

from ..data.dataset import Dataset, DatasetFacts
from ..data.loading import load_study_dataset
from ..errors import CaviarError, FatalError, StorageError
from ..imports import describe_error
from ..packing.calibration import load_or_calibrate, prices_path
from ..spec import StudySpec
from ..storage.database import import_database_code, new_owner, open_storage
from ..storage.handing_back import hand_back_all
from .engine import WorkOrder
from .protocol import Channel, LoadData, Refusal, WorkerExit
from .work import prepare_devices, work

_logger = logging.getLogger(__name__)


def enter(
    target: Callable[..., None], connection: Connection, arguments: Sequence[object], path: Sequence[str]
) -> None:
    """Begin a process that the fork server made, and call its function."""
    sys.path[:] = path
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    gc.freeze()  # what was loaded before stays; to look for garbage in it takes a quarter of a second each time
    target(Channel(connection), *arguments)


def get_ready_first(channel: Channel, spec: StudySpec, threads: int, storage: str) -> None:
    """Load a study's data and tell what is known of it, or why it cannot be loaded; then wait for an order.

    The order will name the address ``storage``.
    """
    try:
        prepare_devices(threads=threads)
        dataset = load_study_dataset(spec)
    except BaseException as error:  # noqa: BLE001  (the user's function may raise anything, SystemExit too)
        if not isinstance(error, CaviarError):
            error = FatalError(f"The data set {spec.data.dataset!r} could not be loaded: {describe_error(error)}.")
        channel.send(Refusal.of(error))
        return
    channel.send(DatasetFacts.of(dataset))
    import_database_code(storage)
    take_order(channel, dataset)


def get_ready(channel: Channel, spec: StudySpec, threads: int, storage: str) -> None:
    """Load what a worker needs, and the data once the first worker has it; then wait for an order."""
    prepare_devices(threads=threads)
    logging.getLogger("caviar.data").setLevel(logging.ERROR)  # the first worker warns of what is odd about the data
    import_database_code(storage)
    if spec.trains_in_fleets:
        load_or_calibrate(prices_path(threads=threads))
    if not isinstance(channel.receive(), LoadData):
        return
    try:
        dataset = load_study_dataset(spec)
    except CaviarError:  # the supervisor has heard it from the first
        return
    take_order(channel, dataset)


def take_order(channel: Channel, dataset: Dataset | None = None) -> None:
    """Wait for an order and work on it; the exit code says how that ended. Without a supervisor nothing is done."""
    order = channel.receive()
    if not isinstance(order, WorkOrder):
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in ("tensorflow", "caviar.data"):  # the run has warned of what is odd about the data
        logging.getLogger(name).setLevel(logging.ERROR)
    owner, stop, asked = new_owner(), threading.Event(), threading.Event()

    def leave() -> None:
        _hand_back_all(order, owner)
        os._exit(WorkerExit.STOPPED)  # the main thread is deep in TensorFlow, where no exception reaches it

    try:
        with _leaving_on_signals(stop, asked, grace_s=order.grace_s, leave=leave):
            recycle = work(order, owner=owner, stop=stop, dataset=dataset, checked=True)
    except CaviarError as error:
        if not isinstance(error, StorageError):  # else there is no study to hand anything back to
            _hand_back_all(order, owner)
        channel.send(Refusal.of(error))
        sys.exit(WorkerExit.REFUSED)
    if asked.is_set():
        sys.exit(WorkerExit.STOPPED)
    sys.exit(WorkerExit.RECYCLE if recycle else WorkerExit.DONE)


@contextlib.contextmanager
def _leaving_on_signals(
    stop: threading.Event, asked: threading.Event, *, grace_s: float, leave: Callable[[], None]
) -> Iterator[None]:
    """End the work after the current epoch when SIGTERM or Ctrl-C asks for it, or by ``leave`` if that takes too long.

    Python runs a signal's handler only between two of its own instructions, so not during a compiled epoch. What C
    does at once is to write the signal's number to a file descriptor; a thread reads it there. A Ctrl-C after the
    first signal leaves at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda _number, _frame: stop.set()) for number in numbers}
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        if not reader.recv(1):
            return
        asked.set()
        stop.set()
        reader.settimeout(grace_s)
        with contextlib.suppress(TimeoutError):
            while (received := reader.recv(1)) and received[0] != signal.SIGINT:
                pass
            if not received:
                return
        leave()

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()
        watcher.join()
        reader.close()


def _hand_back_all(order: WorkOrder, owner: str) -> None:
    """Hand back the worker's trials, through a connection of its own: the other may be in the middle of a write."""
    try:
        hand_back_all(open_storage(order.home.storage, owner=owner, checked=True))
    except (CaviarError, optuna.exceptions.StorageInternalError) as error:
        _logger.warning("The trials could not be handed back; their leases will run out. %s", error)


def _leave_with_parent() -> None:
    """Ask this process to leave, as a signal from outside would, when the process that started it has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
