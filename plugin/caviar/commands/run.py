"""Running a study until its budget is spent: a new one, or one to resume or extend."""

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, TypeAlias

import optuna
from optuna.trial import TrialState

from ..attributes import DATA, ENVIRONMENT, FINGERPRINT, GUESS, STUDY_UID
from ..data.dataset import DatasetFacts
from ..data.names import parse_name
from ..engines.engine import WorkOrder
from ..engines.opening import open_engine
from ..errors import CaviarError
from ..insight.family import warm_start_sentences, warm_start_table
from ..insight.words import range_shown, shown
from ..optuna_private import id_of_study
from ..parameters import ChoiceParameter
from ..record.environment import environment_versions
from ..record.tracking import prepare_template, prepare_tracking
from ..search.pruners import make_pruner
from ..search.samplers import make_sampler_factory, try_sampler
from ..search.stages import keep_stages
from ..spec import StudySpec
from ..storage.addresses import masked
from ..storage.database import creation_lock, new_owner, open_storage, prepare_storage_template
from ..storage.home import Home, prepare_home
from ..storage.leased_storage import LeasedStorage
from ..storage.overview import best_complete_value, count_trials
from ..storage.studies import check_resumable, create_study, open_study, study_key
from ..worker.mirroring import trials_with_runs
from ..worker.objective import network_function
from ..worker.opening import open_mirror
from . import family
from .sizing import check_sizes, fleet_plan_lines, threads_for
from .work import stop_on_signals, work_on_study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, in trials: those ``done`` are complete or pruned, those ``unfinished`` wait or run."""

    study: str
    budget: int
    done: int
    pruned: int
    failed: int
    best_value: float | None
    uid: str | None = None
    unfinished: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.done >= self.budget and not self.unfinished


#: Called at the start of a run and after every trial.
OnProgress: TypeAlias = Callable[[Progress], None]
_Create: TypeAlias = Callable[[LeasedStorage, DatasetFacts], tuple[optuna.Study, StudySpec]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run did: how many trials it finished, and whether its time ran out before its budget.

    MLflow lacks the trials ``missed`` if it was down, and has no ``mlflow_link`` while it is. ``archived`` is the new
    name of the study that a fresh one replaced.
    """

    finished_now: int
    progress: Progress
    interrupted: bool = False
    out_of_time: bool = False
    missed: int = 0
    archived: str | None = None
    mlflow_link: str | None = None


def run_study(
    spec: StudySpec,
    home: Home,
    *,
    source: str | None = None,
    fresh: bool = False,
    on_progress: OnProgress = lambda _progress: None,
    uid: str | None = None,
    also: Mapping[str, str] = MappingProxyType({}),
) -> RunResult:
    """Run a study until its budget is spent, its time is up, or Ctrl-C or SIGTERM ends it.

    All that the user may have got wrong is checked before anything is created or trained. A new study can start from
    the ``source``, the name or the file of another. If ``fresh``, an existing study of this name is archived first.
    ``uid`` is the identity of the study to resume; by default whichever study has the name is resumed. The study gets
    the attributes ``also``, even if it exists already.

    Raises:
        CaviarError: If the study file, the data, the home or the storage is not fit to run.
    """
    check_runnable(spec)
    warm = None if source is None else family.plan_warm_start(spec, home, source, fresh=fresh)
    with _undo_empty_home(home):
        prepare_home(home, study=spec.name)
        if not fresh and (found := family.open_if_any(home, spec.name, uid=uid)) is not None:
            check_resumable(found[1], spec, fingerprint=None)
            progress = read_progress(*found, spec)
            if progress.is_complete:
                on_progress(progress)
                return RunResult(finished_now=0, progress=progress)
        archived: str | None = None

        def create(storage: LeasedStorage, facts: DatasetFacts) -> tuple[optuna.Study, StudySpec]:
            nonlocal archived
            archived = family.archive_family(storage, home, spec.name) if fresh else None
            if uid is not None:
                open_study(storage, spec.name, uid=uid)
            family.set_leftovers_aside(storage, home, spec.name)
            attributes = new_study_attributes(facts) | family.warm_start_attributes(warm, spec)
            study = create_study(storage, spec, attributes=attributes)
            if warm is not None:  # another run may have begun the study meanwhile
                family.check_source(study, warm.source)
            for name, value in also.items():
                study.set_user_attr(name, value)
            return study, spec

        result = create_and_run(spec, home, create, on_progress=on_progress)
    return dataclasses.replace(result, archived=archived)


def check_runnable(spec: StudySpec) -> None:
    """Refuse a study file whose sizes, data set's name, sampler, pruner or network would be refused later."""
    parse_name(spec.data.dataset)
    check_sizes(spec)
    try_sampler(spec.search, spec.space, make_sampler_factory(spec.search, spec.space, seed=spec.seed))
    make_pruner(spec.search, epochs=spec.objective.epochs)
    network_function(spec)


def new_study_attributes(facts: DatasetFacts) -> dict[str, Any]:
    """Return what a new study keeps about its data and itself."""
    return {
        FINGERPRINT: facts.fingerprint,
        DATA: f"{facts.name}: {facts.n_train} train, {facts.n_validation} validation, "
        f"{facts.n_classes} classes, features {facts.feature_shape}",
        GUESS: {
            "n_examples": facts.n_validation,
            "accuracy": facts.majority,
            "loss": facts.entropy,
            "balanced_accuracy": 1 / facts.n_classes,
            "recall_weights": facts.recall_weights,
        },
        STUDY_UID: uuid.uuid4().hex,
        ENVIRONMENT: json.dumps(environment_versions()),
    }


def create_and_run(spec: StudySpec, home: Home, create: _Create, *, on_progress: OnProgress) -> RunResult:
    """Create what is missing while workers get ready, then a study, and run what is left of it.

    The workers get ready for ``spec``. ``create`` creates or opens the study under ``creation_lock``, and also returns
    the study file to run.
    """
    n_workers = spec.search.workers
    threads = threads_for(spec, n_workers=n_workers)
    with ThreadPoolExecutor(1) as pool, open_engine(spec.search, home) as engine:
        # Templates, in the user's cache, while the workers load TensorFlow.
        prepared = pool.submit(prepare_storage_template, home.storage), pool.submit(prepare_template, home.tracking_uri)
        facts = engine.get_ready(spec, threads=threads, n_workers=n_workers)
        check_sizes(spec, facts)
        for made in prepared:
            made.result()
        prepare_tracking(home.tracking_uri, artifact_location=home.mlflow_artifacts.as_uri())
        storage = open_storage(home.storage, owner=new_owner(), create=True)
        with creation_lock(storage):
            study, spec = create(storage, facts)
        keep_stages(study, spec.search)
        before = read_progress(storage, study, spec)
        on_progress(before)
        stop = threading.Event()
        deadline_s = None if spec.search.timeout_s is None else time.monotonic() + spec.search.timeout_s
        name, uid = study.study_name, study_key(storage, study).uid
        order = WorkOrder(home=home, study=name, uid=uid, spec=spec, threads=threads, deadline_s=deadline_s)

        def show() -> None:
            on_progress(read_progress(storage, study, spec))

        with stop_on_signals(stop):
            work_on_study(engine, order, storage, study, n_workers=n_workers, stop=stop, on_poll=show)
    after = read_progress(storage, study, spec)
    mirror = open_mirror(home, study, spec)
    return RunResult(
        finished_now=after.done - before.done,
        progress=after,
        interrupted=stop.is_set(),
        out_of_time=deadline_s is not None and time.monotonic() >= deadline_s and after.done < after.budget,
        missed=len(mirror.missing_trials(trials_with_runs(study.get_trials(deepcopy=False)))),
        mlflow_link=family.charts_link(home, storage, study),
    )


def dry_run_lines(spec: StudySpec, home: Home, *, source: str | None, fresh: bool) -> list[str]:
    """Check a study file as ``run_study`` does, and return what would run; nothing is written to the home."""
    check_runnable(spec)
    warm = family.plan_warm_start(spec, home, source, fresh=fresh)
    search, objective = spec.search, spec.objective
    return [
        f"study {spec.name}, seed {spec.seed}, data {spec.data.dataset}",
        f"{search.trials} trials of at most {objective.epochs} epochs, to {objective.direction} {objective.metric}",
        *warm_start_sentences(warm_start_table(warm, spec.space)),
        f"sampler {search.sampler}, pruner {search.pruner}, trainer {search.trainer}",
        *(
            f"{p.name}: one of {range_shown(p)}"
            if isinstance(p, ChoiceParameter)
            else f"{p.name}: {range_shown(p)}, {p.scale} scale"
            for p in spec.space.parameters
        ),
        *(f"{name} = {shown(value)}" for name, value in spec.space.fixed.items()),
        f"storage {masked(home.storage)}",
        f"tracking {masked(home.tracking_uri)}",
        *(fleet_plan_lines(spec, warm) if spec.trains_in_fleets else ()),
    ]


def result_lines(result: RunResult, name: str) -> list[str]:
    """Return what to say about a run besides the study's status."""
    progress, lines = result.progress, []
    if result.archived is not None:
        lines.append(f"The previous study was renamed to {result.archived!r}.")
    if progress.done >= progress.budget and not result.finished_now:
        lines.append(
            f"{name!r} is finished: all {progress.done} trials are done, so nothing was run. For more trials, give "
            f"--trials {progress.budget * 2}; to start over, --fresh."
        )
    if result.interrupted:
        lines.append("Interrupted. Finished trials are kept; the same command resumes the study.")
    if result.out_of_time:
        done = f"{progress.done} of {progress.budget}"
        lines.append(f"Time is up after {done} trials; the same command resumes the study.")
    if result.missed:
        lines.append(f"MLflow lacks {result.missed} trials; `caviar sync {name}` adds them.")
    elif result.mlflow_link is not None:
        lines.append(f"Compare the runs: `make mlflow`, then {result.mlflow_link}")
    return lines


def read_progress(storage: LeasedStorage, study: optuna.Study, spec: StudySpec) -> Progress:
    """Return how far a study is, whoever ran its trials."""
    counts, key = count_trials(storage, id_of_study(study)), study_key(storage, study)
    complete, pruned = counts[TrialState.COMPLETE], counts[TrialState.PRUNED]
    return Progress(
        study=key.name,
        budget=spec.search.trials,
        done=complete + pruned,
        pruned=pruned,
        failed=counts[TrialState.FAIL],
        best_value=best_complete_value(storage, id_of_study(study), maximize=spec.objective.direction == "maximize"),
        uid=key.uid,
        unfinished=counts[TrialState.WAITING] + counts[TrialState.RUNNING],
    )


@contextlib.contextmanager
def _undo_empty_home(home: Home) -> Iterator[None]:
    """Leave no new home behind if the input turns out to be wrong, or a Ctrl-C comes before anything is made."""
    existed = os.path.lexists(home.path)  # which, unlike its exists(), takes any name
    try:
        yield
    except (CaviarError, KeyboardInterrupt):
        if not existed:
            with contextlib.suppress(OSError):
                home.path.rmdir()
        raise
