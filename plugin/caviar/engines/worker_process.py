"""One worker's process: what it is told, how it is asked to leave, and how it says why it ended."""

import contextlib
import dataclasses
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
from multiprocessing.process import BaseProcess

import optuna

from ..attributes import FINGERPRINT
from ..data.dataset import Dataset, load_study_dataset
from ..errors import CaviarError, FatalError, SpecError, StorageError
from ..packing.calibration import load_or_calibrate, prices_path
from ..search.pruners import make_pruner
from ..search.samplers import make_sampler_factory
from ..search.stages import plan_of_study
from ..search.warm_start import warm_start_of
from ..spec import StudySpec
from ..storage.database import new_owner, open_storage
from ..storage.handing_back import hand_back_all
from ..storage.home import Home
from ..storage.studies import open_study
from ..worker.best_network import NetworkFolder
from ..worker.crew import Crew
from ..worker.objective import KerasObjective, objective_of
from ..worker.opening import open_checkpoints, open_mirror, sampling_seed
from ..worker.trainers import fleet_crew, solo_crew
from ..worker.worker import Worker
from ..worker.worker_setup import WorkerSetup
from .quiet import import_tensorflow_quietly
from .supervisor import WorkerExit, send_refusal

_logger = logging.getLogger(__name__)

#: Seconds that the epoch at hand may take after a worker was asked to leave; then the trial is handed back as it was at
#: its last checkpoint. Well below the 30 s that Kubernetes and the supervisor wait before they kill.
GRACE_S = 10.0

#: Trials after which a worker's process is replaced: TensorFlow leaks about 2 MB a program, whatever one clears. Alone,
#: each trial has a program of its own; a fleet's serve all.
RECYCLE_TRIALS = 100
RECYCLE_FLEET_TRIALS = 4000


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What a worker's process is told, plain enough to cross to it.

    Attributes:
        home: Where the study lives.
        study: Its name.
        uid: What tells it from others of its name, or None for whichever has the name.
        spec: Its file, with the budget and the time limit of this run.
        threads: TensorFlow's threads for one operation.
        max_trials: Trials after which the process ends to be replaced, or None for what the trainer bears.
        deadline_s: When no new trial starts any more, by ``time.monotonic``, or None.
        grace_s: Seconds that the epoch at hand may take after the process was asked to leave.
    """

    home: Home
    study: str
    spec: StudySpec
    threads: int
    uid: str | None = None
    max_trials: int | None = None
    deadline_s: float | None = None
    grace_s: float = GRACE_S


def work(order: WorkOrder, *, owner: str, stop: threading.Event, dataset: Dataset | None = None) -> bool:
    """Run trials of a study in this process until nothing is left to do.

    Args:
        order: What is to be done.
        owner: What names this worker.
        stop: Set from outside to end the work after the epoch at hand.
        dataset: The study's data, or None to load it.

    Returns:
        Whether the process should be replaced by a fresh one, because it has run its share of trials.

    Raises:
        CaviarError: If the study cannot go on.
    """
    spec, home = order.spec, order.home
    prepare_devices(threads=order.threads)
    storage = open_storage(home.storage, owner=owner)
    study = open_study(storage, order.study, uid=order.uid)
    objective = make_objective(spec, study, dataset)  # first: other code of the user's may change the directory
    study.pruner = make_pruner(spec.search, epochs=spec.objective.epochs)
    most = order.max_trials or (RECYCLE_FLEET_TRIALS if spec.trains_in_fleets else RECYCLE_TRIALS)
    ended = 0

    def count(_trial: optuna.trial.FrozenTrial) -> None:
        nonlocal ended
        ended += 1
        if ended >= most:
            share_done.set()

    share_done = threading.Event()
    mirror = open_mirror(home, study, spec)
    seed = sampling_seed(study, spec)
    make_sampler = make_sampler_factory(
        spec.search, spec.space, seed=seed, plan=plan_of_study(study, spec.search), warm=warm_start_of(study)
    )
    setup = WorkerSetup(
        study=study,
        storage=storage,
        spec=spec,
        objective=objective,
        make_sampler=make_sampler,
        mirror=mirror,
        checkpoints=open_checkpoints(home, study),
        networks=NetworkFolder(
            home.networks / study.study_name, home.artifacts, validation=objective.dataset.validation
        ),
        stop=stop,
        share_done=share_done,
        deadline_s=order.deadline_s,
        on_trial=count,
    )
    crew = _make_crew(spec, objective, threads=order.threads)
    try:
        Worker(setup, crew).run()
    finally:
        host_and_process = owner.rsplit(":", 1)[0].replace(":", ".")
        crew.timings.save(home.timings / f"{study.study_name}.{host_and_process}.json")
    return share_done.is_set() and not stop.is_set()


def _make_crew(spec: StudySpec, objective: KerasObjective, *, threads: int) -> Crew:
    if not spec.trains_in_fleets:
        return solo_crew(objective)
    from ..training.devices import fleet_memory_bytes

    memory_bytes = fleet_memory_bytes(n_workers=spec.search.workers)
    return fleet_crew(objective, cost=load_or_calibrate(prices_path(threads=threads)), memory_bytes=memory_bytes)


def prepare_devices(*, threads: int) -> None:
    """Import TensorFlow and bound its threads; must come before its first operation, and so before data is loaded."""
    import_tensorflow_quietly()
    from ..training import devices

    devices.prepare_devices(threads=threads)


def make_objective(spec: StudySpec, study: optuna.Study, dataset: Dataset | None = None) -> KerasObjective:
    """Return a study's objective; its data is loaded where it is not given.

    Raises:
        SpecError: If the data is not what the study was begun with.
        DataError: If it cannot be loaded.
    """
    if dataset is None:
        dataset = load_study_dataset(spec)
    known = study.user_attrs.get(FINGERPRINT)
    if known is not None and known != dataset.fingerprint:
        raise SpecError(
            f"The data set {spec.data.dataset!r} here is not the one that the study {study.study_name!r} had "
            f"(fingerprint {dataset.fingerprint[:12]}, not {known[:12]}). Give this machine the same data."
        )
    return objective_of(spec, dataset)


def start_worker(order: WorkOrder) -> tuple[BaseProcess, Connection]:
    """Start a worker's process, and return it with the connection on which it says why it refuses."""
    return start_process(be_worker, order, name=f"caviar-{order.study}")


def start_process(target: Callable[..., None], *arguments: object, name: str) -> tuple[BaseProcess, Connection]:
    """Start a process from the fork server, and return it with a connection to it.

    Args:
        target: Called there with the arguments and its end of the connection.
        arguments: Plain enough to cross to it.
        name: The process'.

    Raises:
        FatalError: If the fork server has ended.
    """
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=_enter, args=(target, (*arguments, its), list(sys.path)), name=name
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
    return process, ours


def _enter(target: Callable[..., None], arguments: Sequence[object], path: list[str]) -> None:
    sys.path[:] = path
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    gc.freeze()  # what was loaded before stays; to look for garbage in it takes a quarter of a second each time
    target(*arguments)


def be_worker(order: WorkOrder, connection: Connection, dataset: Dataset | None = None) -> None:
    """Work in a process of its own, and say by the exit code how it ended.

    Args:
        order: What is to be done.
        connection: Told why, where the worker refuses.
        dataset: The study's data, or None to load it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for quiet in ("tensorflow", "caviar.data"):  # the run has warned of what is odd about the data
        logging.getLogger(quiet).setLevel(logging.ERROR)
    owner, stop, asked = new_owner(), threading.Event(), threading.Event()

    def leave() -> None:
        _hand_back_all(order, owner)
        os._exit(WorkerExit.STOPPED)  # the main thread is deep in TensorFlow, where no exception reaches it

    try:
        with _leaving_on_signals(stop, asked, grace_s=order.grace_s, leave=leave):
            replace = work(order, owner=owner, stop=stop, dataset=dataset)
    except CaviarError as error:
        if not isinstance(error, StorageError):  # else there is no study to hand anything back to
            _hand_back_all(order, owner)
        send_refusal(connection, error)
        sys.exit(WorkerExit.REFUSED)
    if asked.is_set():
        sys.exit(WorkerExit.STOPPED)
    sys.exit(WorkerExit.RECYCLE if replace else WorkerExit.DONE)


@contextlib.contextmanager
def _leaving_on_signals(
    stop: threading.Event, asked: threading.Event, *, grace_s: float, leave: Callable[[], None]
) -> Iterator[None]:
    """End the work after the epoch at hand when SIGTERM or Ctrl-C asks for it, or by ``leave`` if that takes too long.

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
    """Hand back what this worker holds, through a connection of its own: the other may be in the middle of a write."""
    try:
        hand_back_all(open_storage(order.home.storage, owner=owner))
    except (CaviarError, optuna.exceptions.StorageInternalError) as error:
        _logger.warning("The trial at hand could not be handed back; its lease will run out. %s", error)


def _leave_with_parent() -> None:
    """Ask this process to leave, as a signal from outside would, when the process that started it has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
