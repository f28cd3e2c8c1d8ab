"""The MLflow mirror: one experiment a study, one run a trial. Optuna's storage stays the truth."""

import functools
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from optuna.trial import FrozenTrial, TrialState

from .experiment import open_experiment, trash_experiment, view_tag
from .inspection import missing_numbers, read_run_statuses
from .mlflow_private import quiet_mlflow
from .outage import REFUSED, OutageGuard
from .run_content import RunContent, StudyIdentity, TrialRecord, run_content
from .runs import KnownRun, create_run, fill_run, find_run, list_runs, move_report
from .shared_view import VIEW_KEY, VIEW_TAG, SharedView, joined_view, load_view
from .sqlite_runs import is_plain, sqlite_runs
from .tracking import connect, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_T = TypeVar("_T")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_BATCH = 64  # trials a transaction: others wait for the write lock some 60 ms


class MlflowMirror:
    """Shows a study's trials in MLflow, and never disturbs the study.

    Every call can be repeated: a run is found again, reopened, and given only what it lacks. When the tracking
    store is down, a call does nothing, one warning says so, and the store is left alone for a while; what was
    missed is counted, and recording it later fills it. Not for several threads at once; each process has its own.
    A SQLite file is written straight, many trials at once, without importing mlflow; other stores by MLflow's client.

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
    ) -> None:
        """Make a mirror; nothing is opened or imported before its first use.

        Args:
            tracking_uri: As MLflow takes it.
            study_name: The study's name, which is the experiment's.
            study_uid: What tells this study from an older one of the same name whose experiment is still there, such
                as a UUID kept on the study. Empty: every run of the experiment that has a trial number counts as ours.
            artifact_location: Directory or URI for the runs' artifacts; None leaves it to MLflow.
            experiment_tags: Shown on the experiment and its runs, such as data set and fingerprint; empty ones are
                left out. ``caviar.metric`` decides which way the page sorts.
            clock: The time as Unix seconds.
        """
        tags = {key: value for key, value in experiment_tags.items() if value}
        self._tracking_uri = tracking_uri
        self._study = StudyIdentity(name=study_name, uid=study_uid, artifact_location=artifact_location, tags=tags)
        self._clock = clock
        self._guard = OutageGuard(tracking_uri, clock=clock)
        self._client: MlflowClient | None = None
        self._sqlite = sqlite_runs(tracking_uri, study=self._study)
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

        def find() -> str | None:
            if not self._write_straight([]):
                self._by_client(self._open_experiment)
            return self._experiment_id

        return self._attempt("open the experiment", find)

    def experiment_link(self, server_url: str) -> str | None:
        """Return the address of the study's charts on an MLflow server; None when the store is down.

        The server is where MLflow's pages are, such as ``http://127.0.0.1:5000``. The page opens in the mirror's own
        view: parallel coordinates by exponent, curves, the best trial first.
        """
        experiment_id = self.experiment_id()
        if experiment_id is None:
            return None
        query = {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
        if self._view is not None:
            query["viewStateShareKey"] = VIEW_KEY
        return f"{server_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{urllib.parse.urlencode(query)}"

    def record(
        self,
        trial: FrozenTrial,
        *,
        hyperparameters: Mapping[str, object],
        curves: Mapping[str, Sequence[float]],
        tags: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Write a `TrialRecord` to the trial's run, or what the run lacks of it; the same call again changes nothing.

        Works in every state: of a RUNNING trial the curves so far, and the run stays open.
        """
        self.record_many([TrialRecord(trial=trial, hyperparameters=hyperparameters, curves=curves, tags=tags)])

    def record_many(self, records: Sequence[TrialRecord]) -> None:
        """Write trials to their runs as `record` does; on a SQLite file in one transaction for some dozens of them.

        Where many trials end at once, this costs a tenth of MLflow's own client or less. Other stores are written
        run by run.
        """
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            contents = [run_content(record, study=self._study, now_s=self._clock()) for record in batch]
            self._record_batch(contents)

    def missing_trials(self, study_trials: Iterable[FrozenTrial]) -> list[int]:
        """Return the numbers of the trials that MLflow lacks or shows in another state, ascending.

        A run takes its final status last, so one that has it is whole. A WAITING trial that has reported nothing is not
        missing, be it new or handed back before its first epoch. When the store is down, nothing can be said: the list
        holds every trial that should be there.
        """
        expected = [trial for trial in study_trials if trial.state != TrialState.WAITING or trial.intermediate_values]
        return missing_numbers(expected, self._attempt("read the runs", self._read_statuses) or {})

    def attach_report(self, number: int, files: Sequence[Path]) -> bool:
        """Copy files into the ``report`` folder of a trial's run, in place of those of any run of the study.

        Returns:
            Whether they are there now; False when the store is down or lacks the run.
        """

        def attach() -> bool:
            return move_report(self._opened(), self._list_runs(), number=number, files=files)

        return self._attempt_by_client(f"keep the report with trial {number}", attach) or False

    def rename_experiment(self, new_name: str) -> bool:
        """Rename the study's experiment, so that a fresh one may take its name.

        Returns:
            Whether no experiment has the old name any more; False when the store is down or refuses.
        """

        def rename(client: "MlflowClient", experiment: "Experiment") -> None:
            if experiment.lifecycle_stage == "active":
                client.rename_experiment(experiment.experiment_id, new_name)

        return self._change_experiment(f"rename the experiment to {new_name!r}", rename)

    def delete_experiment(self) -> bool:
        """Move the study's experiment to MLflow's trash, under a name that leaves its own free.

        Returns:
            Whether the experiment is gone; False when the store is down or refuses.
        """
        return self._change_experiment(
            "delete the experiment", functools.partial(trash_experiment, now_s=self._clock())
        )

    # Below, what MLflow raises passes through, except where the name says "attempt".

    def _attempt(self, what: str, action: Callable[[], _T]) -> _T | None:
        return self._guard.attempt(what, action, reset=self._close)

    def _attempt_by_client(self, what: str, action: Callable[[], _T]) -> _T | None:
        return self._attempt(what, functools.partial(self._by_client, action))

    def _by_client(self, action: Callable[[], _T]) -> _T:
        """Run what uses MLflow's client, twice where a run or experiment that is remembered was deleted."""
        import_mlflow()
        from mlflow.exceptions import MlflowException

        remembered = self._experiment_id is not None
        with quiet_mlflow():
            try:
                return action()
            except MlflowException as error:
                if not remembered or error.error_code not in REFUSED:
                    raise
            self._forget()
            return action()

    def _change_experiment(self, what: str, change: "Callable[[MlflowClient, Experiment], None]") -> bool:
        def change_it() -> bool:
            client = self._opened()
            experiment = client.get_experiment_by_name(self._study.name)
            if experiment is not None:
                change(client, experiment)
            self._forget()
            return True

        return self._attempt_by_client(what, change_it) or False

    def _close(self) -> None:
        self._client = None
        self._forget()

    def _forget(self) -> None:
        self._experiment_id = None
        self._view = None
        self._runs.clear()

    def _opened(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self._tracking_uri, artifact_location=self._study.artifact_location)
        return self._client

    def _open_experiment(self) -> str:
        if self._experiment_id is None:
            experiment = open_experiment(self._opened(), self._study, now_s=self._clock())
            self._experiment_id = str(experiment.experiment_id)
            self._view = load_view(experiment.tags.get(VIEW_TAG))
        return self._experiment_id

    def _list_runs(self) -> "dict[int, list[Run]]":
        return list_runs(self._opened(), self._open_experiment(), study_uid=self._study.uid)

    def _read_statuses(self) -> Mapping[int, Sequence[str]]:
        if self._sqlite is not None:
            return read_run_statuses(self._tracking_uri, study_name=self._study.name, study_uid=self._study.uid)
        runs = self._by_client(self._list_runs)
        return {number: [run.info.status for run in found] for number, found in runs.items()}

    def _record_batch(self, contents: Sequence[RunContent]) -> None:
        plain = [content for content in contents if is_plain(content)] if self._sqlite is not None else []
        what = f"record trial {plain[0].number}" if len(plain) == 1 else f"record {len(plain)} trials"
        if len(plain) > 0 and self._attempt(what, functools.partial(self._write_straight, plain)):
            self._missed.difference_update(content.number for content in plain)
            contents = [content for content in contents if not is_plain(content)]
        for content in contents:
            if self._attempt_by_client(f"record trial {content.number}", functools.partial(self._write, content)):
                self._missed.discard(content.number)
            else:
                self._missed.add(content.number)

    def _write_straight(self, contents: Sequence[RunContent]) -> bool:
        """Write the runs and open the experiment without MLflow's client; False where only that can do it."""
        if self._sqlite is None:
            return False
        now = self._clock()
        experiment = self._sqlite.write(contents, now_s=now)
        if experiment is None and self._experiment_id is None:
            self._by_client(self._open_experiment)  # it is in the trash, or MLflow is to place its artifacts
            experiment = self._sqlite.write(contents, now_s=now)
        if experiment is None:
            return False
        self._experiment_id, self._view = str(experiment.experiment_id), experiment.view
        for content in contents:
            self._runs.pop(content.number, None)
        return True

    def _write(self, content: RunContent) -> bool:
        client, experiment_id = self._opened(), self._open_experiment()
        run = self._runs.get(content.number)
        run = run or find_run(client, experiment_id, study_uid=self._study.uid, number=content.number)
        run = run or create_run(client, experiment_id, content)
        view = joined_view(self._view, content.view)
        if view is not None and view != self._view:
            client.set_experiment_tag(experiment_id, VIEW_TAG, view_tag(view, self._study))
            self._view = view
        fill_run(client, run, content)
        if content.end_ms is None:
            self._runs[content.number] = run
        else:
            self._runs.pop(content.number, None)
        return True
