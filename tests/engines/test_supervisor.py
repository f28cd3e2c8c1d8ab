import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

import pytest
from optuna.exceptions import StorageInternalError

from caviar.data.dataset import DatasetFacts
from caviar.engines import supervisor
from caviar.engines.engine import Died, Ending, WorkOrder
from caviar.engines.processes import ProcessEngine, ProcessWorker, start_process
from caviar.engines.protocol import Channel, LoadData, Refusal, WorkerExit
from caviar.errors import DataError, FatalError
from caviar.spec import StudySpec, parse_spec
from caviar.storage.home import locate_home

pytestmark = pytest.mark.slow  # each process takes a second to start


SPEC = parse_spec({"name": "toy", "data": {"dataset": "digits"}})
ORDER = WorkOrder(home=locate_home(Path("none")), study="toy", spec=SPEC, threads=1)


def be(channel: Channel, what: str) -> None:
    """Be a worker of one kind."""
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "vanishes":
        os._exit(0)
    if what == "refuses":
        channel.send(Refusal.of(DataError("a reason")))
        sys.exit(WorkerExit.REFUSED)
    if what == "refuses in silence":
        sys.exit(WorkerExit.REFUSED)
    if what == "works on":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(WorkerExit.STOPPED))
        channel.send(LoadData())
        time.sleep(60)
    sys.exit({"recycles": WorkerExit.RECYCLE, "leaves": WorkerExit.STOPPED}.get(what, WorkerExit.DONE))


class Staff:
    """Starts workers of the kinds given, the last kind again and again."""

    def __init__(self, *kinds: str, at_most: int = 100) -> None:
        self._kinds = list(kinds)
        self._at_most = at_most
        self._engine = ProcessEngine()
        self.workers: list[ProcessWorker] = []

    @property
    def started(self) -> list[BaseProcess]:
        return [worker.process for worker in self.workers]

    def get_ready(self, spec: StudySpec, *, threads: int, n_workers: int) -> DatasetFacts:
        raise NotImplementedError

    def start(self, order: WorkOrder) -> ProcessWorker:
        if len(self.workers) == self._at_most:
            raise OSError("Cannot allocate memory")
        kind = self._kinds.pop(0) if len(self._kinds) > 1 else self._kinds[0]
        self.workers.append(start_process(be, kind, name=kind))
        return self.workers[-1]

    def wait(self, workers: Sequence[ProcessWorker], *, timeout_s: float) -> None:
        self._engine.wait(workers, timeout_s=timeout_s)


def supervise(
    staff: Staff,
    *,
    n_workers: int = 1,
    count_epochs: Callable[[], int] = lambda: 0,
    stop: threading.Event | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    supervisor.supervise(
        staff,
        ORDER,
        n_workers=n_workers,
        count_epochs=count_epochs,
        stop=stop or threading.Event(),
        on_poll=on_poll,
    )


def test_a_worker_that_died_recycled_or_was_told_to_leave_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    staff = Staff("dies", "recycles", "leaves", "is done")
    supervise(staff)
    assert len(staff.started) == 4
    assert "killed by SIGKILL; another takes its place" in caplog.text
    assert "asked to leave by a signal" in caplog.text


def test_three_deaths_in_a_row_end_the_run() -> None:
    staff = Staff("dies")
    with pytest.raises(FatalError, match=r"3 workers died in a row, the last killed by SIGKILL.*caviar check"):
        supervise(staff)
    assert len(staff.started) == 3


@final
class Leaving:
    """A worker whose machine has left, or that is done."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def ending(self) -> Ending:
        return self._ending

    def ask_to_leave(self, *, at_once: bool = False) -> None: ...

    def end_by(self, deadline_s: float) -> None: ...


@final
class Elastic:
    """An engine whose machines leave so many times."""

    def __init__(self, n: int) -> None:
        self.left: list[Ending] = [Died(worker=str(i), how="with its node", with_machine=True) for i in range(n)]

    def get_ready(self, spec: StudySpec, *, threads: int, n_workers: int) -> DatasetFacts:
        raise NotImplementedError

    def start(self, order: WorkOrder) -> Leaving:
        return Leaving(self.left.pop() if self.left else "done")

    def wait(self, workers: Sequence[Leaving], *, timeout_s: float) -> None: ...


def test_machines_that_leave_are_not_counted_as_deaths_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    engine = Elastic(5)
    supervisor.supervise(
        engine, ORDER, n_workers=2, count_epochs=lambda: 0, stop=threading.Event(), on_poll=lambda: None
    )
    assert not engine.left
    assert caplog.text.count("died, with its node; another takes its place") == 5


def test_a_worker_that_ends_with_0_and_not_with_a_word_is_a_death() -> None:
    staff = Staff("vanishes")
    with pytest.raises(FatalError, match=r"3 workers died in a row, the last with exit code 0: the network's own code"):
        supervise(staff)


def test_an_epoch_between_two_deaths_starts_the_count_anew() -> None:
    epochs = iter((0, 5, 5, 6, 6, 6, 6))
    staff = Staff("dies")
    with pytest.raises(FatalError):
        supervise(staff, count_epochs=lambda: next(epochs))
    assert len(staff.started) == 5  # the first with its epochs, one without, then one with them and two without


def test_a_refusal_is_passed_on_and_ends_the_others() -> None:
    staff = Staff("works on", "refuses")
    with pytest.raises(DataError, match="a reason"):
        supervise(staff, n_workers=2)
    assert not any(process.is_alive() for process in staff.started)


def test_a_refusal_without_a_reason_is_still_one() -> None:
    with pytest.raises(FatalError, match="could not say why"):
        supervise(Staff("refuses in silence"))


def test_asked_to_stop_it_ends_its_workers_and_replaces_none() -> None:
    stop, staff = threading.Event(), Staff("works on")
    threading.Timer(3.0, stop.set).start()
    supervise(staff, n_workers=2, stop=stop)
    assert [process.exitcode for process in staff.started] in (
        [WorkerExit.STOPPED, WorkerExit.STOPPED],
        *([-signal.SIGTERM, other] for other in (WorkerExit.STOPPED, -signal.SIGTERM)),
        [WorkerExit.STOPPED, -signal.SIGTERM],
    )


def test_what_cannot_be_counted_or_shown_does_not_end_the_work() -> None:
    def locked() -> int:
        raise StorageInternalError("database is locked")

    supervise(Staff("dies", "is done"), count_epochs=locked, on_poll=lambda: [].__getitem__(locked()))


def test_a_worker_that_cannot_be_started_leaves_none_behind() -> None:
    staff = Staff("works on", at_most=1)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        supervise(staff, n_workers=2)
    assert not staff.started[0].is_alive()
