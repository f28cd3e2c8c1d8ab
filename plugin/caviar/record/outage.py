"""Living without the tracking store: what fails is noted, not raised, and the store is left alone for a while."""

import logging
from collections.abc import Callable
from typing import TypeVar

from ..storage.addresses import masked, reason_of
from .tracking import tracking_errors

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

# What MLflow answers when a single request is wrong, or a run or experiment is gone: the store itself is well.
REFUSED = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"})


class OutageGuard:
    """Runs what talks to MLflow, and turns its failures into one warning an outage.

    Args:
        tracking_uri: Named in the warning, its credentials masked.
        clock: The time as Unix seconds.
        retry_after_s: Seconds to leave a failing store alone, so that an outage costs a trial no time.
    """

    def __init__(self, tracking_uri: str, *, clock: Callable[[], float], retry_after_s: float = 60.0) -> None:
        self._where = masked(tracking_uri)
        self._clock = clock
        self._retry_after_s = retry_after_s
        self._retry_at = float("-inf")
        self._failing = False

    def attempt(self, what: str, action: Callable[[], _T], *, reset: Callable[[], None]) -> _T | None:
        """Run the action; return None when the store fails, or failed a moment ago.

        Args:
            what: For the warning, after "could not".
            action: What to run.
            reset: Called after a failure, to drop what may be out of date.
        """
        if self._clock() < self._retry_at:
            return None
        try:
            result = action()
        except tracking_errors() as error:
            reset()
            self._note(what, error)
            return None
        if self._failing:
            self._failing = False
            _logger.info("MLflow at %s can be used again.", self._where)
        return result

    def _note(self, what: str, error: Exception) -> None:
        outcome = "It refuses this request; the study goes on."
        if getattr(error, "error_code", None) not in REFUSED:
            self._retry_at = self._clock() + self._retry_after_s
            outcome = (
                f"The study goes on without it; MLflow is tried again after {self._retry_after_s:.0f} s, and "
                "`caviar sync` fills what is missing."
            )
        level = logging.DEBUG if self._failing else logging.WARNING
        _logger.log(level, "MLflow at %s could not %s: %s. %s", self._where, what, reason_of(error), outcome)
        self._failing = True
