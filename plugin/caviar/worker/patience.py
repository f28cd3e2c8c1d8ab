"""Writing to the study's database while it is locked: trying again, for long but not for ever."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError

from ..errors import StorageUnavailableError
from ..storage.schema import describe_outage, explain_outage, may_pass

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds for which a worker tries to reach a database that is locked or out of reach, before it gives up. Long enough
#: for a backup or a server's restart.
PATIENCE_S = 900.0


class Patience:
    """How long a worker bears a locked database.

    Args:
        stop: Set from outside to stop the worker.
        patience_s: Seconds for which one write is tried.
        poll_s: Seconds between tries.
    """

    def __init__(self, stop: threading.Event, *, patience_s: float = PATIENCE_S, poll_s: float = 1.0) -> None:
        self._stop = stop
        self._patience_s = patience_s
        self._poll_s = poll_s
        self._failing_since_s: float | None = None

    def outlast(self, write: Callable[[], _T], *, what: str) -> _T | None:
        """Write, trying again while the database is locked; None where the worker is asked to stop meanwhile.

        Raises:
            StorageUnavailableError: If it cannot be written and waiting is of no use, or was.
        """
        while True:
            try:
                done = write()
            except StorageInternalError as error:
                self.bear(error, what=what)
                if self._stop.wait(self._poll_s):
                    return None
            else:
                self._failing_since_s = None
                return done

    def attempt(self, write: Callable[[], _T], *, what: str) -> _T | None:
        """Write, or return None where the database is locked, so that the worker can do other things meanwhile.

        Raises:
            StorageUnavailableError: If it cannot be written and waiting is of no use, or was.
        """
        try:
            done = write()
        except StorageInternalError as error:
            self.bear(error, what=what)
            return None
        self._failing_since_s = None
        return done

    def bear(self, error: StorageInternalError, *, what: str) -> None:
        """Take note of a write that failed.

        Raises:
            StorageUnavailableError: If waiting is of no use, or was.
        """
        now_s = time.monotonic()
        self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        outage = describe_outage(error)
        if not may_pass(error) or now_s - self._failing_since_s >= self._patience_s:
            raise StorageUnavailableError(f"{explain_outage(error)} What is done is kept.") from error
        _logger.warning("Could not %s, since the study's database is busy (%s). Trying again.", what, outage)
