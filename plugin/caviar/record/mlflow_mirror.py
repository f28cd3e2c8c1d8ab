"""The MLflow mirror: one experiment a study, one run a trial. Optuna's storage stays the truth."""

import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from optuna.trial import FrozenTrial, TrialState

from .environment import environment_versions
from .experiment import StudyIdentity, open_experiment, trash_experiment
from .inspection import missing_numbers
from .outage import REFUSED, OutageGuard
from .run_content import RUN_STATUS, curve_points, run_name, run_params, run_tags, summary_points, time_ms
from .runs import KnownRun, fill_run, find_run, list_runs, set_status
from .shared_view import VIEW_KEY, VIEW_TAG, SharedView, dump_view, load_view, trial_view
from .tracking import connect

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_T = TypeVar("_T")
_NOTHING: Mapping[str, str] = MappingProxyType({})


class MlflowMirror:
    """Shows a study's trials in MLflow, and never disturbs the study.

    Every call can be repeated: a run is found again, reopened, and given only what it lacks. When the tracking
    store is down, a call does nothing, one warning says so, and the store is left alone for a while; what was
    missed is counted, and recording it later fills it. Not for several threads at once; each process has its own.

    Example:
        >>> mirror = MlflowMirror("sqlite:///runs/mlflow.db", study_name="digits")
        >>> for number in mirror.missing_trials(study.trials):
        ...     trial = study.trials[number]
        ...     mirror.record(trial, hyperparameters=trial.params, curves={})
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        study_name: str,
        study_uid: str = "",
        artifact_location: str | None = None,
        experiment_tags: Mapping[str, str] = _NOTHING,
        clock: Callable[[], float] = time.time,
        retry_after_s: float = 60.0,
    ) -> None:
        """Make a mirror; nothing is opened or imported before its first use.

        Args:
            tracking_uri: Where MLflow keeps its records, as MLflow takes it.
            study_name: The study's name, which is the experiment's.
            study_uid: What tells this study from an older one of the same name whose experiment is still there, such
                as a UUID kept on the study. Empty: every run of the experiment that has a trial number counts as ours.
            artifact_location: Directory or URI for the runs' artifacts; None leaves it to MLflow.
            experiment_tags: Shown on the experiment and its runs, such as data set and fingerprint; empty ones are
                left out. ``caviar.metric`` decides which way the page sorts.
            clock: The time as Unix seconds.
            retry_after_s: Seconds to leave a failing store alone, so that an outage costs a trial no time.
        """
        tags = {key: value for key, value in experiment_tags.items() if value}
        self._tracking_uri = tracking_uri
        self._study = StudyIdentity(name=study_name, uid=study_uid, artifact_location=artifact_location, tags=tags)
        self._clock = clock
        self._guard = OutageGuard(tracking_uri, clock=clock, retry_after_s=retry_after_s)
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._view: SharedView | None = None
        self._runs: dict[int, KnownRun] = {}  # of unfinished trials
        self._missed: set[int] = set()

    @property
    def missed(self) -> frozenset[int]:
        """Numbers of the trials whose last record did not reach MLflow; ``caviar sync`` fills them."""
        return frozenset(self._missed)

    def experiment_id(self) -> str | None:
        """Return the id of the study's experiment, created where there is none; None when the store is down."""
        return self._attempt("open the experiment", self._open_experiment)

    def experiment_link(self, server_url: str) -> str | None:
        """Return the address of the study's charts on an MLflow server; None when the store is down.

        The page opens in the mirror's own view: parallel coordinates by exponent, curves, the best trial first.

        Args:
            server_url: Where MLflow's pages are, such as ``http://127.0.0.1:5000``.
        """
        experiment_id = self.experiment_id()
        if experiment_id is None:
            return None
        query = {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
        if self._view is not None:
            query["viewStateShareKey"] = VIEW_KEY
        return f"{server_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{urllib.parse.urlencode(query)}"

    def compare_link(self, server_url: str, numbers: Iterable[int]) -> str | None:
        """Return the address of MLflow's comparison of these trials: parallel coordinates, scatter, box, contour.

        Args:
            server_url: Where MLflow's pages are, such as ``http://127.0.0.1:5000``.
            numbers: The trials, in this order; those without a run are left out. A hundred make an address of 4 kB.
        """
        runs = self._attempt("read the runs", self._list_runs)
        if runs is None:
            return None
        chosen = ",".join(f'"{runs[number][0].info.run_id}"' for number in numbers if number in runs)
        query = {"runs": f"[{chosen}]", "experiments": f'["{self._experiment_id}"]', "workflowType": "machine_learning"}
        return f"{server_url.rstrip('/')}/#/compare-runs?{urllib.parse.urlencode(query)}"

    def record(
        self,
        trial: FrozenTrial,
        *,
        hyperparameters: Mapping[str, object],
        curves: Mapping[str, Sequence[float]],
        tags: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Write a trial to its run, or what the run lacks of it; the same call again changes nothing.

        Works in every state: of a RUNNING trial the curves so far, and the run stays open.

        Args:
            trial: The trial as the storage has it.
            hyperparameters: As the user thinks of them (``momentum``). Added from the trial: what Optuna sampled
                (``one_minus_momentum``), and the exponent of what has a log scale (``learning_rate_log10``).
            curves: For each metric its values from epoch 0, any length. A value that is not finite is left out, and
                the first such epoch is kept in the tag ``caviar.diverged_epoch``.
            tags: More tags. The experiment's and, on a new run, the environment's versions (``env.python`` and so
                on) are added unless given here.
        """

        def write() -> bool:
            self._write(trial, hyperparameters, curves, tags)
            return True

        if self._attempt(f"record trial {trial.number}", write):
            self._missed.discard(trial.number)
        else:
            self._missed.add(trial.number)

    def missing_trials(self, study_trials: Iterable[FrozenTrial]) -> list[int]:
        """Return the numbers of the trials that MLflow lacks or shows in another state, ascending.

        A run takes its final status last, so one that has it is whole. A WAITING trial that never started is not
        missing. When the store is down, nothing can be said: the list holds every trial that should be there.

        Args:
            study_trials: The study's trials, such as ``study.get_trials(deepcopy=False)``.
        """
        expected = [
            trial
            for trial in study_trials
            if trial.state != TrialState.WAITING or trial.datetime_start is not None or trial.intermediate_values
        ]
        found = self._attempt("read the runs", self._list_runs) or {}
        return missing_numbers(expected, {number: [run.info.status for run in runs] for number, runs in found.items()})

    def rename_experiment(self, new_name: str) -> bool:
        """Rename the study's experiment, so that a fresh one may take its name.

        Returns:
            Whether no experiment has the old name any more; False when the store is down or refuses.
        """

        def rename() -> bool:
            client = self._opened()
            experiment = client.get_experiment_by_name(self._study.name)
            if experiment is not None and experiment.lifecycle_stage == "active":
                client.rename_experiment(experiment.experiment_id, new_name)
            self._forget()
            return True

        return self._attempt(f"rename the experiment to {new_name!r}", rename) or False

    def delete_experiment(self) -> bool:
        """Move the study's experiment to MLflow's trash, under a name that leaves its own free.

        Returns:
            Whether the experiment is gone; False when the store is down or refuses.
        """

        def delete() -> bool:
            client = self._opened()
            experiment = client.get_experiment_by_name(self._study.name)
            if experiment is not None:
                trash_experiment(client, experiment, now_s=self._clock())
            self._forget()
            return True

        return self._attempt("delete the experiment", delete) or False

    # Below, what MLflow raises passes through; _attempt catches it.

    def _attempt(self, what: str, action: Callable[[], _T]) -> _T | None:
        return self._guard.attempt(what, lambda: self._refreshed(action), reset=self._close)

    def _refreshed(self, action: Callable[[], _T]) -> _T:
        """Run the action, again if what is remembered of MLflow is out of date: a run or experiment was deleted."""
        from mlflow.exceptions import MlflowException

        remembered = self._experiment_id is not None
        try:
            return action()
        except MlflowException as error:
            if not remembered or error.error_code not in REFUSED:
                raise
        self._forget()
        return action()

    def _close(self) -> None:
        self._client = None
        self._forget()

    def _forget(self) -> None:
        self._experiment_id = None
        self._view = None
        self._runs.clear()

    def _opened(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self._tracking_uri)
        return self._client

    def _open_experiment(self) -> str:
        if self._experiment_id is None:
            experiment = open_experiment(self._opened(), self._study, now_s=self._clock())
            self._experiment_id = str(experiment.experiment_id)
            self._view = load_view(experiment.tags.get(VIEW_TAG))
        return self._experiment_id

    def _list_runs(self) -> "dict[int, list[Run]]":
        return list_runs(self._opened(), self._open_experiment(), study_uid=self._study.uid)

    def _write(
        self,
        trial: FrozenTrial,
        hyperparameters: Mapping[str, object],
        curves: Mapping[str, Sequence[float]],
        more_tags: Mapping[str, str],
    ) -> None:
        experiment_id = self._open_experiment()
        client = self._opened()
        now = self._clock()
        tags = run_tags(trial, curves, study_name=self._study.name, study_uid=self._study.uid)
        tags |= {**self._study.tags, **more_tags}
        run = self._runs.get(trial.number)
        run = run or find_run(client, experiment_id, study_uid=self._study.uid, number=trial.number)
        run = run or self._create_run(trial, tags)
        self._show(trial, trial_view(trial, hyperparameters, curves))
        fill_run(
            client,
            run,
            points=curve_points(trial, curves, now_s=now) + summary_points(trial, now_s=now),
            params=run_params(trial, hyperparameters),
            tags=tags,
        )
        # The status comes last of all: a run with its final status is whole.
        finished = trial.state.is_finished()
        end_ms = time_ms(trial.datetime_complete, default_s=now) if finished else None
        set_status(client, run, RUN_STATUS[trial.state], end_ms=end_ms)
        if finished:
            self._runs.pop(trial.number, None)
        else:
            self._runs[trial.number] = run

    def _create_run(self, trial: FrozenTrial, tags: Mapping[str, str]) -> KnownRun:
        versions = {f"env.{name}": version for name, version in environment_versions().items()}
        run = self._opened().create_run(
            self._open_experiment(),
            start_time=time_ms(trial.datetime_start, default_s=self._clock()),
            run_name=run_name(self._study.name, trial.number),
            tags={"mlflow.source.name": "caviar", "mlflow.source.type": "LOCAL", **versions, **tags},
        )
        return KnownRun(run)

    def _show(self, trial: FrozenTrial, view: SharedView) -> None:
        """Bring the experiment's view up to date where a trial brings a parameter or curve, or lacks an axis."""
        if not trial.params:
            return
        joined = view if self._view is None else self._view.joined(view)
        if joined != self._view:
            ascending = self._study.tags.get("caviar.metric", "").endswith("loss")
            self._opened().set_experiment_tag(self._open_experiment(), VIEW_TAG, dump_view(joined, ascending=ascending))
            self._view = joined
