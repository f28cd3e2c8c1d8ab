"""What a worker works with, whichever trainer it runs."""

import dataclasses
import threading
import time
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial

from ..record.mlflow_mirror import MlflowMirror
from ..search.samplers import SamplerFactory
from ..spec import StudySpec
from ..storage.checkpoints import CheckpointStore
from ..storage.leased_storage import LeasedStorage
from .best_network import NetworkFolder
from .objective import KerasObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """A study, and what its worker works with.

    Attributes:
        study: Opened on ``storage``.
        storage: This worker's.
        spec: The study file.
        objective: What a trial is.
        make_sampler: Makes each trial's sampler.
        pruner: The study file's. Not the study's own: Optuna gives a study that is opened without one a median pruner.
        mirror: The study's in MLflow, or None.
        checkpoints: The study's.
        networks: Keeps the best networks, or None.
        only_trial: The number of the one trial to run, or None for all that the study has left.
        stop: Set from outside to stop the worker: it hands its trials back after their epoch.
        share_done: Set from outside when this process has run its share: the trials that have begun are finished.
        deadline_s: When no new trial starts any more, or None; those that have begun are finished. By
            ``time.monotonic``, which all processes of a host share and nobody sets.
        on_trial: Called with every trial that ended.
        poll_s: Seconds between looks at the study while others run its last trials, and between tries to reach a
            locked database.
    """

    study: optuna.Study
    storage: LeasedStorage
    spec: StudySpec
    objective: KerasObjective
    make_sampler: SamplerFactory
    pruner: optuna.pruners.BasePruner
    mirror: MlflowMirror | None
    checkpoints: CheckpointStore
    networks: NetworkFolder | None
    stop: threading.Event
    share_done: threading.Event
    deadline_s: float | None
    on_trial: Callable[[FrozenTrial], None]
    poll_s: float = 0.5
    only_trial: int | None = None

    def should_end(self) -> bool:
        """Tell whether no new trial may start: asked to stop, share done, or out of time."""
        out_of_time = self.deadline_s is not None and time.monotonic() >= self.deadline_s
        return self.stop.is_set() or self.share_done.is_set() or out_of_time
