"""What a worker works with, whichever trainer it runs."""

import dataclasses
import threading
import time
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial

from ..record.background import Recorder
from ..search.samplers import SamplerFactory
from ..spec import StudySpec
from ..storage.checkpoints import CheckpointStore
from ..storage.leased_storage import LeasedStorage
from .best_network import NetworkFolder
from .objective import KerasObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """A study, and what its worker works with."""

    study: optuna.Study  # opened on ``storage``
    storage: LeasedStorage  # this worker's
    spec: StudySpec
    objective: KerasObjective
    make_sampler: SamplerFactory
    # Not the study's own: Optuna gives a study that is opened without one a median pruner.
    pruner: optuna.pruners.BasePruner
    checkpoints: CheckpointStore
    stop: threading.Event  # set from outside to stop the worker: it hands its trials back after their epoch
    mirror: Recorder | None = None  # the study's in MLflow; None to show it nothing
    networks: NetworkFolder | None = None  # keeps the best networks
    # Set from outside when this process has run its share: the trials that have begun are finished.
    share_done: threading.Event = dataclasses.field(default_factory=threading.Event)
    # When no new trial starts any more; those that have begun are finished. By ``time.monotonic``, which all processes
    # of a host share and nobody sets.
    deadline_s: float | None = None
    on_trial: Callable[[FrozenTrial], None] = lambda _trial: None  # called with every trial that ended
    # Seconds between looks at the study while others run its last trials, and between tries to reach a locked database.
    poll_s: float = 0.5
    only_trial: int | None = None  # the number of the one trial to run; None for all that the study has left

    def should_end(self) -> bool:
        """Tell whether no new trial may start: asked to stop, share done, or out of time."""
        out_of_time = self.deadline_s is not None and time.monotonic() >= self.deadline_s
        return self.stop.is_set() or self.share_done.is_set() or out_of_time
