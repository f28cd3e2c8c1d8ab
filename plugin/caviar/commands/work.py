"""Working on a study: one worker's process, and the processes that share a study."""

import contextlib
import dataclasses
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

import optuna

from ..data.dataset import load_dataset
from ..errors import CaviarError, SpecError
from ..imports import import_object
from ..search.objective import KerasObjective
from ..search.pruners import make_pruner
from ..search.quiet import import_tensorflow_quietly
from ..search.samplers import make_sampler_factory
from ..search.supervisor import Supervisor, WorkerExit, send_refusal
from ..search.worker import Worker
from ..spec import StudySpec
from ..storage.database import new_owner, open_storage
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import FINGERPRINT, open_study
from ..storage.tickets import count_epochs
from .opening import open_checkpoints, open_mirror, required_spec

#: Trials after which a worker's process is replaced: TensorFlow leaks about 2 MB a trial, whatever one clears.
RECYCLE_TRIALS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What a worker's process is told, plain enough to cross to it.

    Attributes:
        home: Where the study lives.
        study: Its name.
        spec: Its file, with the budget and the time limit of this run.
        threads: TensorFlow's threads for one operation.
        max_trials: Trials after which the process ends to be replaced, or None for no end.
        deadline_s: Unix time after which no new trial starts, or None.
    """

    home: Home
    study: str
    spec: StudySpec
    threads: int
    max_trials: int | None = RECYCLE_TRIALS
    deadline_s: float | None = None


def work(order: WorkOrder, *, stop: threading.Event) -> bool:
    """Run trials of a study in this process until nothing is left to do.

    Returns:
        Whether the process should be replaced by a fresh one, because it has run its share of trials.

    Raises:
        CaviarError: If the study cannot go on.
    """
    spec, home = order.spec, order.home
    import_tensorflow_quietly()
    limit_threads(order.threads)
    storage = open_storage(home.storage, owner=new_owner())
    study = open_study(storage, order.study)
    study.pruner = make_pruner(spec.search, epochs=spec.objective.epochs)
    ended = 0

    def count(_trial: optuna.trial.FrozenTrial) -> None:
        nonlocal ended
        ended += 1
        if order.max_trials is not None and ended >= order.max_trials:
            share_done.set()

    share_done = threading.Event()
    mirror = open_mirror(home, study, spec)
    worker = Worker(
        study=study,
        storage=storage,
        spec=spec,
        objective=make_objective(spec, study),
        make_sampler=make_sampler_factory(spec.search, spec.space, seed=spec.seed),
        mirror=mirror,
        checkpoints=open_checkpoints(home, study),
        stop=stop,
        share_done=share_done,
        deadline_s=order.deadline_s,
        on_trial=count,
    )
    worker.run()
    return share_done.is_set() and not stop.is_set()


def make_objective(spec: StudySpec, study: optuna.Study) -> KerasObjective:
    """Load a study's data and return its objective.

    Raises:
        SpecError: If the data is not what the study was begun with.
        DataError: If it cannot be loaded.
    """
    dataset = load_dataset(spec.data.dataset, validation_fraction=spec.data.validation_fraction, seed=spec.seed)
    known = study.user_attrs.get(FINGERPRINT)
    if known is not None and known != dataset.fingerprint:
        raise SpecError(
            f"The data set {spec.data.dataset!r} here is not the one that the study {study.study_name!r} had "
            f"(fingerprint {dataset.fingerprint[:12]}, not {known[:12]}). Give this machine the same data."
        )
    network = spec.objective.network
    return KerasObjective(
        dataset,
        epochs=spec.objective.epochs,
        metric=spec.objective.metric,
        space=spec.space,
        network=None if network is None else import_object(network, what="objective.network"),
        seed=spec.seed,
    )


def supervise(
    order: WorkOrder, storage: LeasedStorage, *, n_workers: int, stop: threading.Event, on_poll: Callable[[], None]
) -> None:
    """Run a study with worker processes until its budget is spent.

    Raises:
        CaviarError: If a worker cannot go on, or workers keep dying.
    """
    study_id = open_study(storage, order.study)._study_id
    Supervisor(
        n_workers=n_workers,
        start=lambda connection: _start_worker(order, connection),
        count_epochs=lambda: count_epochs(storage, study_id),
        stop=stop,
        on_poll=on_poll,
    ).run()


def work_on_existing(home: Home, study: str) -> None:
    """Join a study that was begun elsewhere with one worker, until nothing is left to do, Ctrl-C or SIGTERM.

    Raises:
        CaviarError: If there is no such study, or the worker cannot go on.
    """
    warm_up()
    storage = open_storage(home.storage, owner=new_owner())
    opened = open_study(storage, study)
    stop = threading.Event()
    order = WorkOrder(home=home, study=study, spec=required_spec(opened), threads=threads_for(1))
    with stop_on_signals(stop):
        supervise(order, storage, n_workers=1, stop=stop, on_poll=lambda: None)
    if stop.is_set():
        raise KeyboardInterrupt


def threads_for(n_workers: int) -> int:
    """Return how many threads each of so many workers on this machine gets, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // n_workers)


def limit_threads(threads: int) -> None:
    """Bound TensorFlow's threads; must come before its first operation, and is left alone after it."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def warm_up() -> None:
    """Start the fork server, which loads TensorFlow while this process looks at everything else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.search.preloaded"])
    multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the work after the epoch at hand, and a second Ctrl-C at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_worker(order: WorkOrder, connection: Connection) -> BaseProcess:
    process = multiprocessing.get_context("forkserver").Process(
        target=_run_worker_process, args=(order, connection, list(sys.path)), name=f"caviar-{order.study}"
    )
    process.start()
    return process


def _run_worker_process(order: WorkOrder, connection: Connection, path: list[str]) -> None:
    """Be a worker's process: work, and say by the exit code how it ended."""
    sys.path[:] = path
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    stop = threading.Event()
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    try:
        with stop_on_signals(stop):
            replace = work(order, stop=stop)
    except CaviarError as error:
        send_refusal(connection, error)
        sys.exit(WorkerExit.REFUSED)
    except KeyboardInterrupt:
        sys.exit(WorkerExit.DONE)
    sys.exit(WorkerExit.RECYCLE if replace else WorkerExit.DONE)


def _stop_with_parent(stop: threading.Event) -> None:
    """End the worker, after its epoch, when the process that started it has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        stop.set()
