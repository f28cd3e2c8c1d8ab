"""What a worker bears, for long but not forever: a database that is locked or out of reach, and failing trials."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar, final

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from ..attributes import ENQUEUED, FAIL_REASON
from ..errors import CaviarError, FatalError, StorageUnavailableError
from ..storage.schema import describe_outage, explain_outage, may_pass

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S: Final = 900.0  # for which a worker tries to reach its database: a server's restart takes a while
MAX_FAILURES_IN_A_ROW: Final = 5  # then a worker gives up: the study itself is broken


@final
class Patience:
    """Decides how long a worker bears a locked database.

    Every method raises StorageUnavailableError once waiting is of no use, or was of none for ``patience_s``. A write is
    tried every ``poll_s`` seconds; ``stop`` is set from outside to stop the worker.
    """

    def __init__(self, stop: threading.Event, *, poll_s: float, patience_s: float = PATIENCE_S) -> None:
        self._stop = stop
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._failing_since_s: float | None = None

    def outlast(self, write: Callable[[], _T], *, what: str) -> _T | None:
        """Write, trying again while the database is locked; return None if the worker is asked to stop meanwhile."""
        while True:
            done = self.attempt(write, what=what)
            if self._failing_since_s is None:
                return done
            if self._stop.wait(self._poll_s):
                return None

    def attempt(self, write: Callable[[], _T], *, what: str) -> _T | None:
        """Write, or return None if the database is locked, so that the worker can do other things meanwhile."""
        try:
            done = write()
        except StorageInternalError as error:
            self.bear(error, what=what)
            return None
        self._failing_since_s = None
        return done

    def bear(self, error: StorageInternalError, *, what: str) -> None:
        """Take note of a failed write."""
        now_s = time.monotonic()
        level = logging.WARNING if self._failing_since_s is None else logging.DEBUG  # a line an outage
        self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        outage = describe_outage(error)
        if not may_pass(error) or now_s - self._failing_since_s >= self._patience_s:
            raise StorageUnavailableError(f"{explain_outage(error)} What is done is kept.") from error
        _logger.log(level, "Could not %s, since the study's database is busy (%s). Trying again.", what, outage)


def failures_in_a_row(before: int, trial: FrozenTrial) -> int:
    """Return how many trials in a row have failed, now that one more has ended; raises FatalError if it is too many.

    One that a user enqueued says nothing about the study.
    """
    if trial.state == TrialState.FAIL and ENQUEUED in trial.system_attrs:
        return before
    failures = before + 1 if trial.state == TrialState.FAIL else 0
    if failures >= MAX_FAILURES_IN_A_ROW:
        raise FatalError(
            f"{failures} trials in a row failed, the last with: {trial.user_attrs.get(FAIL_REASON, '')} "
            "Mend the cause and run the study again; what is done is kept."
        )
    return failures


def fail_reason(error: Exception) -> str:
    """Return in one line what is kept of an error that ended a trial."""
    message = str(error) if isinstance(error, CaviarError) else f"{type(error).__name__}: {error}"
    return message.splitlines()[0][:500]
