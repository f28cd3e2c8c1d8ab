"""Working on a study in the process that asks for it: for races, and for searches that leave nothing behind."""

import os
import threading
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial

from ..data.dataset import Dataset
from ..search.pruners import make_pruner
from ..search.samplers import SamplerFactory
from ..spec import StudySpec
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..worker.objective import objective_of
from ..worker.opening import open_checkpoints, open_mirror
from ..worker.worker import Worker
from ..worker.worker_setup import WorkerSetup
from .work import make_crew


def work_here(
    study: optuna.Study,
    storage: LeasedStorage,
    spec: StudySpec,
    dataset: Dataset,
    *,
    make_sampler: SamplerFactory,
    home: Home,
    mirrored: bool,
    stop: threading.Event,
    deadline_s: float | None = None,
    on_trial: Callable[[FrozenTrial], None] = lambda _trial: None,
) -> None:
    """Run trials of a study until nothing is left to do.

    Args:
        study: Opened on the storage.
        storage: Where it is.
        spec: Its study file.
        dataset: What its trials train on.
        make_sampler: Makes each trial's sampler.
        home: Where its checkpoints and its MLflow are.
        mirrored: Whether MLflow is shown its trials.
        stop: Set from outside to leave after the epoch at hand.
        deadline_s: When no new trial starts any more, by ``time.monotonic``, or None.
        on_trial: Called with each trial that ended.

    Raises:
        CaviarError: If the study cannot go on.
    """
    objective = objective_of(spec, dataset)
    setup = WorkerSetup(
        study=study,
        storage=storage,
        spec=spec,
        objective=objective,
        make_sampler=make_sampler,
        pruner=make_pruner(spec.search, epochs=spec.objective.epochs),
        mirror=open_mirror(home, study, spec) if mirrored else None,
        checkpoints=open_checkpoints(home, study),
        networks=None,
        stop=stop,
        share_done=threading.Event(),
        deadline_s=deadline_s,
        on_trial=on_trial,
    )
    Worker(setup, make_crew(spec, objective, threads=os.cpu_count() or 1)).run()
