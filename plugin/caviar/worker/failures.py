"""What the failures of trials say about their study."""

from typing import Final, final

from optuna.trial import FrozenTrial, TrialState

from ..attributes import ENQUEUED, FAIL_REASON
from ..errors import CaviarError, FatalError

#: After so many failures in a row, with no completed trial between them, a worker gives up: the study itself is broken.
MAX_FAILURES_IN_A_ROW: Final = 5


@final
class FailuresInARow:
    """Counts trials that failed one after the other."""

    def __init__(self) -> None:
        self._failures = 0

    def count(self, trial: FrozenTrial) -> None:
        """Take note of a trial that ended. One that a user enqueued says nothing about the study.

        Raises:
            FatalError: If it is one failure too many.
        """
        if trial.state == TrialState.FAIL and ENQUEUED in trial.system_attrs:
            return
        self._failures = self._failures + 1 if trial.state == TrialState.FAIL else 0
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            reason = trial.user_attrs.get(FAIL_REASON, "")
            raise FatalError(
                f"{self._failures} trials in a row failed, the last with: {reason} "
                "Mend the cause and run the study again; what is done is kept."
            )


def fail_reason(error: Exception) -> str:
    """Return in one line what is kept of an error that ended a trial."""
    message = str(error) if isinstance(error, CaviarError) else f"{type(error).__name__}: {error}"
    return message.splitlines()[0][:500]
