"""Working on a study: the workers that share it, and what is put right after them."""

import contextlib
import dataclasses
import functools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import optuna

from ..engines.engine import Engine, WorkOrder
from ..engines.processes import ProcessEngine
from ..engines.supervisor import supervise
from ..optuna_private import id_of_study
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.opening import open_existing, required_spec
from ..storage.overview import count_epochs
from ..storage.studies import check_still_there, study_key
from ..worker.mirroring import mirroring_of, sync_trials
from ..worker.opening import open_checkpoints, open_mirror
from .sizing import threads_for

_logger = logging.getLogger(__name__)

#: Seconds that the end of a run gives MLflow to catch up; a file needs a tenth of a second for what it may lack.
CATCH_UP_S: Final = 20.0


def work_on_study(
    engine: Engine[Any],
    order: WorkOrder,
    storage: LeasedStorage,
    study: optuna.Study,
    *,
    n_workers: int,
    stop: threading.Event,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Have workers run a study until its budget is spent, or ``stop`` is set.

    Raises:
        CaviarError: If a worker cannot go on, workers keep dying, or the study was deleted or archived.
    """
    count = functools.partial(count_epochs, storage, id_of_study(study))
    supervise(engine, order, n_workers=n_workers, count_epochs=count, stop=stop, on_poll=on_poll)
    check_still_there(storage, study)
    # What workers that were killed just after a trial's end left undone: checkpoints to remove, runs to write.
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    checkpoints = open_checkpoints(order.home, study)
    try:
        for number in {trial.number for trial in ended}.intersection(checkpoints.numbers()):
            checkpoints.remove(number)
    except OSError as error:  # a store elsewhere that is away
        _logger.warning("The checkpoints of finished trials stay, and `caviar doctor --fix` removes them: %s", error)
    mirror, spec = open_mirror(order.home, study, order.spec), order.spec
    sync = functools.partial(sync_trials, mirror, ended, mirroring_of(study, spec), within_s=CATCH_UP_S)
    if ended and sync()[0]:  # another run's worker may have been writing the same run: a second look removes the double
        sync()


def work_on_existing(home: Home, study: str, *, trial: int | None = None) -> None:
    """Join a study that exists with one worker, until nothing is left to do, Ctrl-C or SIGTERM.

    With the number of a trial, run that trial alone.
    """
    stop = threading.Event()
    with ProcessEngine(home) as engine:
        storage, opened = open_existing(home, study)
        name = opened.study_name
        prepare_home(home, study=name)
        spec = required_spec(opened)
        spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, engine="processes"))  # this machine's
        threads = threads_for(spec, n_workers=1)
        uid = study_key(storage, opened).uid
        order = WorkOrder(home=home, study=name, uid=uid, spec=spec, threads=threads, trial=trial)
        with stop_on_signals(stop):
            work_on_study(engine, order, storage, opened, n_workers=1, stop=stop)
    if stop.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the work after the current epoch, and a second Ctrl-C at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
