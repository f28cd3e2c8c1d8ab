"""A worker's leases on its trials: renewed while it trains, and known to have run out where it is cut off."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import final

from optuna.exceptions import StorageInternalError

from ..storage.buffered_storage import BufferedStorage
from ..storage.leases import LeaseCheck
from ..storage.schema import describe_outage

_logger = logging.getLogger(__name__)


@final
class KeptLeases:
    """The leases on all trials that a worker holds.

    They last for ``lease_s`` seconds after the database has renewed them. This counts from before that, by a clock that
    nobody sets: when another worker may have taken a trial, this one knows, though it hears nothing.
    """

    def __init__(self, buffer: BufferedStorage, *, lease_s: float) -> None:
        self._buffer = buffer
        self._lease_s = lease_s
        self._renewed_at_s = time.monotonic()

    @property
    def have_run_out(self) -> bool:
        """Whether others may have the trials by now: nothing may be trained, or written to files, until a flush."""
        return time.monotonic() - self._renewed_at_s >= self._lease_s

    def flush(self) -> LeaseCheck:
        """Write what is pending, and say which trials are lost; raises as the buffer's ``flush`` does."""
        began_s = time.monotonic()
        check = self._buffer.flush()
        self._renewed_at_s = began_s  # the buffer has let go of what was lost
        for trial_id in sorted(check.lost | check.ended):
            how = "its lease was lost" if trial_id in check.lost else "it was ended from outside"
            _logger.warning("Trial %d is left alone: %s.", self._buffer.get_trial(trial_id).number, how)
        return check

    def catch_up(self, flush: Callable[[], object], *, stop: threading.Event, poll_s: float) -> None:
        """Wait until a flush has reached the database, so that what this worker holds is known, or ``stop`` is set.

        ``flush`` bears a database that is out of reach, and raises when that is of no use any more.
        """
        while self.have_run_out:
            flush()
            if self.have_run_out and stop.wait(poll_s):
                return

    def renew(self) -> None:
        """Renew the leases, from any thread; raises as the buffer's ``renew`` does."""
        began_s = time.monotonic()
        if not self._buffer.renew().lost:
            self._renewed_at_s = max(began_s, self._renewed_at_s)

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew them from a thread in this block, since an epoch or a trace may last longer than they do."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep_renewing, args=(done,), name="leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _keep_renewing(self, done: threading.Event) -> None:
        """Renew the leases whenever a third of their time has passed; a locked database only causes a warning."""
        every_s = pause_s = self._lease_s / 3
        while not done.wait(pause_s):
            pause_s = self._renewed_at_s + every_s - time.monotonic()
            if pause_s > 0:
                continue  # a flush has renewed them
            pause_s = every_s
            try:
                self.renew()
            except StorageInternalError as error:
                _logger.warning("The leases could not be renewed: %s.", describe_outage(error))
