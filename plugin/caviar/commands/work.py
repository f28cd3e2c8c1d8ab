"""Working on a study: the processes that share it, and what is put right before and after."""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import optuna

from ..engines.ready_workers import ReadyWorkers
from ..engines.supervisor import Supervisor
from ..engines.warming import warm_up
from ..engines.worker_process import WorkOrder, start_worker
from ..parameters import ChoiceParameter
from ..space import SearchSpace
from ..spec import StudySpec
from ..storage.database import new_owner, open_storage
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import required_spec
from ..storage.overview import count_epochs
from ..storage.studies import check_still_there, open_study, study_key
from ..worker.mirroring import sync_trials
from ..worker.opening import open_checkpoints, open_mirror

#: Units of a layer from which on its products gain from a second thread.
_WIDE_UNITS: Final = 192


def supervise(
    order: WorkOrder,
    storage: LeasedStorage,
    study: optuna.Study,
    *,
    n_workers: int,
    stop: threading.Event,
    on_poll: Callable[[], None] = lambda: None,
    ready: ReadyWorkers | None = None,
) -> None:
    """Run a study with worker processes until its budget is spent.

    Args:
        order: What each of them is told.
        storage: Where the study is.
        study: Opened on it.
        n_workers: How many work at once.
        stop: Set from outside to end the work.
        on_poll: Called a few times a second.
        ready: Processes that work first, before new ones are started.

    Raises:
        CaviarError: If a worker cannot go on, workers keep dying, or the study was deleted or archived.
    """
    Supervisor(
        n_workers=n_workers,
        start=lambda: (ready and ready.take(order)) or start_worker(order),
        count_epochs=lambda: count_epochs(storage, study._study_id),
        stop=stop,
        on_poll=on_poll,
    ).run()
    check_still_there(storage, study)
    _finish_what_the_dead_left(order, study)


def _finish_what_the_dead_left(order: WorkOrder, study: optuna.Study) -> None:
    """Do what workers that were killed just after a trial's end left undone: remove checkpoints, write runs."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    checkpoints = open_checkpoints(order.home, study)
    for number in {trial.number for trial in ended}.intersection(checkpoints.numbers()):
        checkpoints.remove(number)
    mirror, spec = open_mirror(order.home, study, order.spec), order.spec
    filled = sync_trials(mirror, ended, space=spec.space, metric=spec.objective.metric) if ended else (0, 0)
    if filled[0]:  # another run's worker may have been writing the same run: the second look removes the double
        sync_trials(mirror, ended, space=spec.space, metric=spec.objective.metric)


def work_on_existing(home: Home, study: str) -> None:
    """Join a study that was begun elsewhere with one worker, until nothing is left to do, Ctrl-C or SIGTERM.

    Raises:
        CaviarError: If there is no such study, or the worker cannot go on.
    """
    warm_up()
    storage = open_storage(home.storage, owner=new_owner())
    opened = open_study(storage, study)
    prepare_home(home, study=study)
    stop = threading.Event()
    spec = required_spec(opened)
    threads = threads_for(spec, n_workers=1)
    order = WorkOrder(home=home, study=study, uid=study_key(storage, opened).uid, spec=spec, threads=threads)
    with stop_on_signals(stop):
        supervise(order, storage, opened, n_workers=1, stop=stop)
    if stop.is_set():
        raise KeyboardInterrupt


def threads_for(spec: StudySpec, *, n_workers: int) -> int:
    """Return how many threads each of so many workers on this machine gets for one operation, at least 1.

    Solo trainings share the cores. Fleets take one thread each, but for wide networks: handing a small product to a
    second thread takes longer than computing it. On 2 cores, one worker with two threads took 1.5 times as long as with
    one for the default space (16 to 256 units, digits and Fashion-MNIST), and 0.76 times for layers of 256 units.
    """
    share = max(1, len(os.sched_getaffinity(0)) // n_workers)
    return 1 if spec.trains_in_fleets and _typical_units(spec.space) < _WIDE_UNITS else share


def _typical_units(space: SearchSpace) -> float:
    """Return the geometric middle of the widths that a space draws, or has fixed."""
    fixed = space.fixed.get("units", 1)
    widths: Sequence[Any] = fixed if isinstance(fixed, tuple) else (fixed,)
    for parameter in space.parameters:
        if parameter.name == "units":
            widths = parameter.choices if isinstance(parameter, ChoiceParameter) else (parameter.low, parameter.high)
    return math.sqrt(min(widths) * max(widths))


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
