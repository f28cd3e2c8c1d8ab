"""The MLflow mirror: one experiment a study, one run a trial. Optuna's storage stays the truth."""

import datetime
import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.trial import FrozenTrial, TrialState

from .environment import environment_versions
from .run_content import (
    DIVERGED_TAG,
    RUN_STATUS,
    STATE_TAG,
    STUDY_TAG,
    STUDY_UID_TAG,
    TRIAL_NUMBER_TAG,
    Point,
    curve_points,
    diverged_epoch,
    run_name,
    summary_points,
    time_ms,
)
from .tracking import connect, import_mlflow, masked_uri, quiet_mlflow, tracking_errors

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_PAGE = 1000  # runs a search returns at once; MLflow's own limit is 50,000, at some 3 kB a run


class _KnownRun:
    """A run and what it already holds, so that nothing is written twice."""

    def __init__(self, run: "Run", points: set[tuple[str, int]]) -> None:
        self.run_id: str = run.info.run_id
        self.status: str = run.info.status
        self.params: set[str] = set(run.data.params)
        self.tags: dict[str, str] = dict(run.data.tags)
        self.points = points


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
            experiment_tags: Shown on the experiment's page, such as data set and metric.
            clock: The time as Unix seconds.
            retry_after_s: Seconds to leave a failing store alone, so that an outage costs a trial no time.
        """
        self._tracking_uri = tracking_uri
        self._study_name = study_name
        self._study_uid = study_uid
        self._artifact_location = artifact_location
        self._experiment_tags = dict(experiment_tags)
        self._clock = clock
        self._retry_after_s = retry_after_s
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._runs: dict[int, _KnownRun] = {}  # of unfinished trials
        self._missed: set[int] = set()
        self._retry_at = float("-inf")
        self._failing = False

    @property
    def missed(self) -> frozenset[int]:
        """Numbers of the trials whose last record did not reach MLflow; ``caviar sync`` fills them."""
        return frozenset(self._missed)

    def experiment_id(self) -> str | None:
        """Return the id of the study's experiment, created where there is none; None when the store is down."""
        return self._attempt("open the experiment", self._open_experiment)

    def experiment_link(self, server_url: str) -> str | None:
        """Return the address of the study's charts on an MLflow server; None when the store is down.

        Args:
            server_url: Where MLflow's pages are, such as ``http://127.0.0.1:5000``.
        """
        experiment_id = self.experiment_id()
        if experiment_id is None:
            return None
        return f"{server_url.rstrip('/')}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART"

    def compare_link(self, server_url: str, numbers: Iterable[int]) -> str | None:
        """Return the address of MLflow's comparison of these trials (parallel coordinates, scatter, contour).

        Args:
            server_url: Where MLflow's pages are, such as ``http://127.0.0.1:5000``.
            numbers: The trials to compare, in this order. Those without a run are left out; a hundred make a long
                address that browsers still take.
        """
        runs = self._attempt("read the runs", self._list_runs)
        experiment_id = self.experiment_id()
        if runs is None or experiment_id is None:
            return None
        chosen = ",".join(f'"{runs[number][0].info.run_id}"' for number in numbers if number in runs)
        query = urllib.parse.urlencode({"runs": f"[{chosen}]", "experiments": f'["{experiment_id}"]'})
        return f"{server_url.rstrip('/')}/#/compare-runs?{query}"

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
            hyperparameters: As the user thinks of them (``momentum``); what Optuna sampled
                (``one_minus_momentum``) is added from the trial.
            curves: For each metric its values from epoch 0, any length. A value that is not finite is left out, and
                the first such epoch is kept in the tag ``caviar.diverged_epoch``.
            tags: More tags, such as the data's fingerprint. The environment's versions are added to a new run, as
                ``env.python`` and so on, unless given here.
        """

        def write() -> bool:
            self._write(trial, {**trial.params, **hyperparameters}, curves, tags)
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
        expected = {
            trial.number: RUN_STATUS[trial.state]
            for trial in study_trials
            if trial.state != TrialState.WAITING or trial.datetime_start is not None or trial.intermediate_values
        }
        found = self._attempt("read the runs", self._list_runs) or {}
        return sorted(
            number
            for number, status in expected.items()
            if number not in found or len(found[number]) > 1 or found[number][0].info.status != status
        )

    def rename_experiment(self, new_name: str) -> bool:
        """Rename the study's experiment, so that a fresh one may take its name.

        Returns:
            Whether no experiment has the old name any more; False when the store is down or refuses.
        """

        def rename() -> bool:
            experiment = self._find_experiment()
            if experiment is not None:
                self._opened().rename_experiment(experiment.experiment_id, new_name)
            self._forget()
            return True

        return self._attempt(f"rename the experiment to {new_name!r}", rename) or False

    def delete_experiment(self) -> bool:
        """Move the study's experiment to MLflow's trash, under a name that leaves its own free.

        MLflow keeps a deleted experiment and its name until ``mlflow gc``, and refuses a new one of that name.

        Returns:
            Whether the experiment is gone; False when the store is down or refuses.
        """

        def delete() -> bool:
            experiment = self._find_experiment()
            if experiment is not None:
                self._trash(experiment)
            self._forget()
            return True

        return self._attempt("delete the experiment", delete) or False

    # Below, what MLflow raises passes through; _attempt catches it.

    def _attempt(self, what: str, action: Callable[[], _T]) -> _T | None:
        """Run the action, or return None when the store is failing or was a moment ago."""
        now = self._clock()
        if now < self._retry_at:
            return None
        import_mlflow()
        try:
            with quiet_mlflow():
                result = self._twice(action)
        except tracking_errors() as error:
            self._fail(what, error)
            return None
        if self._failing:
            self._failing = False
            _logger.info("MLflow at %s can be used again.", masked_uri(self._tracking_uri))
        return result

    def _twice(self, action: Callable[[], _T]) -> _T:
        """Run the action, again if what is remembered of MLflow is out of date: a run or experiment was deleted."""
        from mlflow.exceptions import MlflowException

        remembered = self._experiment_id is not None
        try:
            return action()
        except MlflowException as error:
            if not remembered or error.error_code not in _STALE:
                raise
        self._forget()
        return action()

    def _fail(self, what: str, error: Exception) -> None:
        if getattr(error, "error_code", None) not in _STALE:  # the store is at fault, not this one request
            self._retry_at = self._clock() + self._retry_after_s
        self._client = None
        self._forget()
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        _logger.log(
            level,
            "MLflow at %s could not %s: %s. The study goes on without it, and MLflow is tried again every %.0f s; "
            "`caviar sync` fills what is missing.",
            masked_uri(self._tracking_uri),
            what,
            masked_uri(str(error).strip().split("\n", 1)[0]).rstrip("."),
            self._retry_after_s,
        )

    def _forget(self) -> None:
        self._experiment_id = None
        self._runs.clear()

    def _opened(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self._tracking_uri)
        return self._client

    def _open_experiment(self) -> str:
        if self._experiment_id is None:
            experiment = self._find_experiment()
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                self._trash(experiment)
                experiment = None
            if experiment is None:
                experiment = self._create_experiment()
            self._tag_experiment(experiment)
            self._experiment_id = str(experiment.experiment_id)
        return self._experiment_id

    def _find_experiment(self) -> "Experiment | None":
        return self._opened().get_experiment_by_name(self._study_name)

    def _create_experiment(self) -> "Experiment":
        from mlflow.exceptions import MlflowException

        client = self._opened()
        try:
            experiment_id = client.create_experiment(self._study_name, self._artifact_location)
        except MlflowException as error:
            experiment = self._find_experiment()
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                raise
            return experiment  # another process was faster
        return client.get_experiment(experiment_id)

    def _tag_experiment(self, experiment: "Experiment") -> None:
        described = "".join(f"\n- {key}: `{value}`" for key, value in self._experiment_tags.items())
        wanted = {
            STUDY_TAG: self._study_name,
            "mlflow.experimentKind": "custom_model_development",  # else the page asks whether this is about agents
            "mlflow.note.content": (
                f"Mirror of the Optuna study **{self._study_name}**: one run a trial, in steps of one epoch. "
                "`value` is what Optuna ranks complete trials by (its best trial comes first), `best_value` the best "
                "epoch, of pruned trials too. FINISHED is Optuna's COMPLETE, KILLED its PRUNED. "
                f"`caviar sync {self._study_name}` fills what is missing here.{described}"
            ),
            **self._experiment_tags,
        }
        if self._study_uid:
            uid = experiment.tags.get(STUDY_UID_TAG, self._study_uid)
            if uid != self._study_uid:
                _logger.warning(
                    "MLflow's experiment %r holds the runs of another study of this name. The new runs stand beside "
                    "them, told apart by the tag %s; rename the old experiment to have them apart.",
                    self._study_name,
                    STUDY_UID_TAG,
                )
            wanted[STUDY_UID_TAG] = uid
        for key, value in wanted.items():
            if experiment.tags.get(key) != value:
                self._opened().set_experiment_tag(experiment.experiment_id, key, value)

    def _trash(self, experiment: "Experiment") -> None:
        """Delete an experiment under another name. One in the trash must come back for that: MLflow renames no other."""
        client = self._opened()
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        moment = datetime.datetime.fromtimestamp(self._clock(), tz=datetime.UTC)
        name = f"{self._study_name} (deleted {moment:%Y-%m-%d %H:%M:%S} UTC, {experiment.experiment_id})"
        client.rename_experiment(experiment.experiment_id, name)
        client.delete_experiment(experiment.experiment_id)
        _logger.info("MLflow's deleted experiment %r is kept in its trash as %r.", self._study_name, name)

    def _search(self, filter_string: str = "") -> "list[Run]":
        """Return the study's runs, oldest first."""
        experiment_id = self._open_experiment()
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._opened().search_runs(
                [experiment_id],
                filter_string,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            runs += [run for run in page if self._is_ours(run)]
            token = page.token
            if not token:
                return runs

    def _is_ours(self, run: "Run") -> bool:
        uid = run.data.tags.get(STUDY_UID_TAG, "")
        return TRIAL_NUMBER_TAG in run.data.tags and (not uid or not self._study_uid or uid == self._study_uid)

    def _list_runs(self) -> "dict[int, list[Run]]":
        runs: dict[int, list[Run]] = {}
        for run in self._search():
            number = run.data.tags[TRIAL_NUMBER_TAG]
            if number.isdecimal():
                runs.setdefault(int(number), []).append(run)
        return runs

    def _find_run(self, number: int) -> _KnownRun | None:
        found = self._search(f"tags.`{TRIAL_NUMBER_TAG}` = '{number}'")
        if not found:
            return None
        client = self._opened()
        for double in found[1:]:  # two processes recorded the trial at once; the older run stays
            client.delete_run(double.info.run_id)
        run = found[0]
        points = {(key, metric.step) for key in run.data.metrics for metric in client.get_metric_history(run.info.run_id, key)}
        return _KnownRun(run, points)

    def _create_run(self, trial: FrozenTrial, tags: Mapping[str, str]) -> _KnownRun:
        run = self._opened().create_run(
            self._open_experiment(),
            start_time=time_ms(trial.datetime_start, default_s=self._clock()),
            run_name=run_name(self._study_name, trial.number),
            tags={
                "mlflow.source.name": "caviar",
                "mlflow.source.type": "LOCAL",
                **{f"env.{name}": version for name, version in environment_versions().items()},
                **tags,
            },
        )
        return _KnownRun(run, set())

    def _write(
        self,
        trial: FrozenTrial,
        hyperparameters: Mapping[str, object],
        curves: Mapping[str, Sequence[float]],
        more_tags: Mapping[str, str],
    ) -> None:
        self._open_experiment()
        tags = self._tags(trial, curves, more_tags)
        known = self._runs.get(trial.number) or self._find_run(trial.number) or self._create_run(trial, tags)
        now = self._clock()
        points = curve_points(trial, curves, now_s=now) + summary_points(trial, now_s=now)
        self._log(
            known,
            [point for point in points if (point.key, point.step) not in known.points],
            {key: str(value) for key, value in hyperparameters.items() if key not in known.params},
            {key: value for key, value in tags.items() if known.tags.get(key) != value},
        )
        self._set_status(known, trial)
        if trial.state.is_finished():
            self._runs.pop(trial.number, None)
        else:
            self._runs[trial.number] = known

    def _tags(
        self, trial: FrozenTrial, curves: Mapping[str, Sequence[float]], more_tags: Mapping[str, str]
    ) -> dict[str, str]:
        tags = {
            STUDY_TAG: self._study_name,
            TRIAL_NUMBER_TAG: str(trial.number),
            STATE_TAG: trial.state.name,
            **more_tags,
        }
        if self._study_uid:
            tags[STUDY_UID_TAG] = self._study_uid
        epoch = diverged_epoch(curves)
        if epoch is not None:
            tags[DIVERGED_TAG] = str(epoch)
        return tags

    def _log(self, known: _KnownRun, points: list[Point], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write all in one call; MLflow's client cuts it to the 1,000 metrics that its server takes at once."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in points]
        self._opened().log_batch(
            known.run_id,
            metrics,
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        known.points.update((point.key, point.step) for point in points)
        known.params.update(params)
        known.tags.update(tags)

    def _set_status(self, known: _KnownRun, trial: FrozenTrial) -> None:
        """Set the run's status, last of all: a run with its final status is whole."""
        status = RUN_STATUS[trial.state]
        if known.status == status:
            return
        if trial.state.is_finished():
            end_ms = time_ms(trial.datetime_complete, default_s=self._clock())
            self._opened().set_terminated(known.run_id, status, end_ms)
        else:
            self._opened().update_run(known.run_id, status=status)
        known.status = status


_STALE: frozenset[Any] = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"})
