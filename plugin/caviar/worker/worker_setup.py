"""What a worker is made of, whichever trainer it runs."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from ..attributes import ENQUEUED, FAIL_REASON
from ..errors import CaviarError, FatalError, TrialFailed
from ..record.mlflow_mirror import MlflowMirror
from ..search.samplers import SamplerFactory
from ..spec import StudySpec
from ..storage.checkpoints import CheckpointStore
from ..storage.leased_storage import LeasedStorage
from ..storage.schema import describe_outage
from .best_network import NetworkFolder
from .objective import KerasObjective
from .patience import PATIENCE_S

_logger = logging.getLogger(__name__)

#: Failed trials in a row, none completed between them, after which a worker gives up: the study itself is broken.
MAX_FAILURES_IN_A_ROW = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """A study, and what its worker works with.

    Attributes:
        study: Opened on ``storage``, with its pruner.
        storage: This worker's.
        spec: The study file.
        objective: What a trial is.
        make_sampler: Each trial's sampler.
        mirror: MLflow's, or None.
        checkpoints: The study's, or None to keep none.
        networks: Where the best networks are saved, or None to keep none.
        stop: Set from outside to stop it: the trial at hand is handed back after its epoch.
        share_done: Set from outside when this process has run its share; the trial at hand is finished.
        deadline_s: When no new trial starts any more, by ``time.monotonic``, which all processes of a host share and
            which no one sets, or None; the trial at hand is finished.
        on_trial: Called with every trial that ended.
        poll_s: Seconds between looks at the study while others run its last trials, and between tries to reach a
            database that is locked.
        patience_s: Seconds for which a locked database is tried.
    """

    study: optuna.Study
    storage: LeasedStorage
    spec: StudySpec
    objective: KerasObjective
    make_sampler: SamplerFactory
    mirror: MlflowMirror | None
    checkpoints: CheckpointStore | None
    networks: NetworkFolder | None
    stop: threading.Event
    share_done: threading.Event
    deadline_s: float | None
    on_trial: Callable[[FrozenTrial], None]
    poll_s: float = 0.5
    patience_s: float = PATIENCE_S

    def should_end(self) -> bool:
        """Tell whether no new trial may start: asked to stop, share done, or out of time."""
        out_of_time = self.deadline_s is not None and time.monotonic() >= self.deadline_s
        return self.stop.is_set() or self.share_done.is_set() or out_of_time

    def retries_after(self, error: Exception) -> int:
        """Return how often a trial that raised may run anew: never with values that the space refuses."""
        return 0 if isinstance(error, TrialFailed) else self.spec.search.retries


class FailuresInARow:
    """Counts trials that failed one after the other."""

    def __init__(self) -> None:
        self._failures = 0

    def count(self, trial: FrozenTrial) -> None:
        """Take note of a trial that ended. What a user enqueued says nothing about the study.

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
    """Return what is kept of an error that ended a trial, in one line."""
    message = str(error) if isinstance(error, CaviarError) else f"{type(error).__name__}: {error}"
    return message.splitlines()[0][:500]


@contextlib.contextmanager
def keep_leases(renew: Callable[[], object], *, lease_s: float) -> Iterator[None]:
    """Renew the leases from a thread: an epoch or a trace may last longer than they do.

    Args:
        renew: Renews all that the worker holds; a locked database is only said.
        lease_s: Seconds that a lease lasts without renewal.
    """
    done = threading.Event()

    def keep_renewing() -> None:
        while not done.wait(lease_s / 3):
            try:
                renew()
            except StorageInternalError as error:
                _logger.warning("The leases could not be renewed: %s.", describe_outage(error))

    thread = threading.Thread(target=keep_renewing, name="leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
