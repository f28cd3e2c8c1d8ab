"""What a worker does with its order, whoever gives it."""

import os
import threading
from collections.abc import Callable

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial

from ..attributes import FINGERPRINT
from ..data.dataset import Dataset
from ..data.loading import load_study_dataset
from ..errors import SpecError, StorageError
from ..packing.calibration import load_or_calibrate, prices_path
from ..record.background import BackgroundMirror, in_background
from ..record.mlflow_mirror import MlflowMirror
from ..search.pruners import make_pruner
from ..search.samplers import SamplerFactory, make_sampler_factory
from ..search.stages import plan_of_study
from ..search.warm_start import warm_start_of
from ..spec import StudySpec
from ..storage.database import is_out_of_reach, open_storage
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import open_study
from ..worker.best_network import NetworkFolder
from ..worker.crew import Crew
from ..worker.objective import KerasObjective, objective_of
from ..worker.opening import open_checkpoints, open_mirror, sampling_seed
from ..worker.patience import Patience
from ..worker.trainers import fleet_crew, solo_crew
from ..worker.worker import Worker
from ..worker.worker_setup import WorkerSetup
from .engine import WorkOrder
from .quiet import import_tensorflow_quietly

#: Trials after which a worker's process is replaced: TensorFlow leaks about 2 MB a program, whatever one clears. With
#: the solo trainer, each trial has a program of its own; a fleet's programs serve all.
RECYCLE_TRIALS = 100
RECYCLE_FLEET_TRIALS = 4000


def work(
    order: WorkOrder, *, owner: str, stop: threading.Event, dataset: Dataset | None = None, checked: bool = False
) -> bool:
    """Run trials of a study in this process until nothing is left to do, or ``stop`` is set and the current epoch over.

    Returns whether the process should be replaced by a fresh one, because it has run its share of trials. ``owner``
    names this worker. The study's data is loaded unless it is given. ``checked`` is as ``open_storage`` has it. Raises
    CaviarError if the study cannot go on.
    """
    spec, home = order.spec, order.home
    prepare_devices(threads=order.threads)
    opened = open_patiently(order, owner=owner, stop=stop, checked=checked)
    if opened is None:
        return False
    storage, study = opened
    objective = open_objective(spec, study, dataset=dataset)  # first: the user's other code may change the directory
    share = order.max_trials or (RECYCLE_FLEET_TRIALS if spec.trains_in_fleets else RECYCLE_TRIALS)
    share_done, ended = threading.Event(), 0

    def count(_trial: FrozenTrial) -> None:
        nonlocal ended
        ended += 1
        if ended >= share:
            share_done.set()

    make_sampler = make_sampler_factory(
        spec.search,
        spec.space,
        seed=sampling_seed(study, spec),
        plan=plan_of_study(study, spec.search),
        warm=warm_start_of(study),
    )
    mirror = BackgroundMirror(open_mirror(home, study, spec))
    setup = WorkerSetup(
        study=study,
        storage=storage,
        spec=spec,
        objective=objective,
        make_sampler=make_sampler,
        pruner=make_pruner(spec.search, epochs=spec.objective.epochs),
        mirror=mirror,
        checkpoints=open_checkpoints(home, study),
        networks=NetworkFolder(
            home.networks / study.study_name, home.artifacts, validation=objective.dataset.validation
        ),
        only_trial=order.trial,
        stop=stop,
        share_done=share_done,
        deadline_s=order.deadline_s,
        on_trial=count,
    )
    crew = make_crew(setup, threads=order.threads, neighbors=order.neighbors)
    try:
        Worker(setup, crew).run()
    finally:
        mirror.close()
        host_and_process = owner.rsplit(":", 1)[0].replace(":", ".")
        crew.timings.save(home.timings / f"{study.study_name}.{host_and_process}.json")
    return share_done.is_set() and not stop.is_set()


def open_patiently(
    order: WorkOrder, *, owner: str, stop: threading.Event, checked: bool = False
) -> tuple[LeasedStorage, optuna.Study] | None:
    """Open an order's study, which existed a moment ago: a database out of reach is waited for, unless ``stop`` is set.

    A worker may be started in the middle of an outage, in the place of one that died.
    """

    def attempt() -> tuple[LeasedStorage, optuna.Study]:
        try:
            storage = open_storage(order.home.storage, owner=owner, checked=checked)
        except StorageError as error:
            if is_out_of_reach(error):
                raise StorageInternalError(str(error)) from error.__cause__
            raise
        return storage, open_study(storage, order.study, uid=order.uid)

    return Patience(stop, poll_s=0.5).outlast(attempt, what="open the study")


def work_here(
    study: optuna.Study,
    storage: LeasedStorage,
    spec: StudySpec,
    dataset: Dataset,
    *,
    home: Home,
    make_sampler: SamplerFactory,
    mirror: MlflowMirror | None = None,
    stop: threading.Event | None = None,
    deadline_s: float | None = None,
    on_trial: Callable[[FrozenTrial], None] = lambda _trial: None,
) -> None:
    """Run trials of an opened study in this process, on all its cores; `WorkerSetup` says what the options are.

    Raises:
        CaviarError: If the study cannot go on.
    """
    with in_background(mirror) as recorder:
        setup = WorkerSetup(
            study=study,
            storage=storage,
            spec=spec,
            objective=objective_of(spec, dataset),
            make_sampler=make_sampler,
            pruner=make_pruner(spec.search, epochs=spec.objective.epochs),
            checkpoints=open_checkpoints(home, study),
            mirror=recorder,
            stop=stop or threading.Event(),
            deadline_s=deadline_s,
            on_trial=on_trial,
        )
        Worker(setup, make_crew(setup, threads=os.cpu_count() or 1)).run()


def prepare_devices(*, threads: int) -> None:
    """Import TensorFlow and bound its threads; must come before its first operation, and so before data is loaded."""
    import_tensorflow_quietly()
    from ..training import devices

    devices.prepare_devices(threads=threads)


def make_crew(setup: WorkerSetup, *, threads: int, neighbors: int | None = None) -> Crew:
    """Return the crew that trains a study's trials in this process.

    It shares the machine's memory with ``neighbors``, itself included; by default with all of the study's workers.
    """
    if not setup.spec.trains_in_fleets:
        return solo_crew(setup.objective)
    from ..training.devices import fleet_memory_bytes

    memory_bytes = fleet_memory_bytes(n_workers=neighbors or setup.spec.search.workers)
    return fleet_crew(setup.objective, cost=load_or_calibrate(prices_path(threads=threads)), memory_bytes=memory_bytes)


def open_objective(spec: StudySpec, study: optuna.Study, *, dataset: Dataset | None) -> KerasObjective:
    """Return a study's objective; refuse data that is not what the study was begun with."""
    if dataset is None:
        dataset = load_study_dataset(spec)
    known = study.user_attrs.get(FINGERPRINT)
    if known is not None and known != dataset.fingerprint:
        raise SpecError(
            f"The data set {dataset.name!r} on this machine is not the one that the study {study.study_name!r} "
            f"was begun with (fingerprint {dataset.fingerprint[:12]}, not {known[:12]}). Give this machine the same "
            "data."
        )
    return objective_of(spec, dataset)
