"""The MLflow mirror: one experiment a study, one run a trial. Optuna's storage stays the truth."""

import functools
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from optuna.trial import FrozenTrial, TrialState

from .data_set import StudyData
from .environment import environment_versions
from .experiment import open_experiment, set_tag, trash_experiment, view_tag
from .inspection import missing_numbers, read_run_statuses
from .logged_model import log_network
from .mlflow_private import quiet_mlflow
from .outage import REFUSED, OutageGuard
from .run_content import RunContent, StudyIdentity, TrialRecord, run_content
from .runs import KnownRun, create_run, fill_run, find_run, is_whole, list_runs, move_report, split_runs
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
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        study_name: str,
        study_uid: str = "",
        artifact_location: str | None = None,
        experiment_tags: Mapping[str, str] = _NOTHING,
        versions: Mapping[str, str] | None = None,
        data: StudyData | None = None,
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
            versions: What the trials ran with; None for what is installed here.
            data: The data set, an input of every run; None if it is not known.
            clock: The time as Unix seconds.
        """
        tags = {key: value for key, value in experiment_tags.items() if value}
        self._tracking_uri = tracking_uri
        self._study = StudyIdentity(
            name=study_name,
            uid=study_uid,
            artifact_location=artifact_location,
            tags=tags,
            versions=environment_versions() if versions is None else versions,
            data=data,
        )
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
            if self._write_straight([]) is None:
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
        for contents in self._batches(records):
            self._record_batch(contents)

    def fill(self, records: Sequence[TrialRecord]) -> int:
        """Write what MLflow lacks of trials, and return how many of their runs lacked something; twice changes nothing.

        Runs that another version of caviar wrote are completed too. A server is asked for all runs at once, and sent
        nothing about those that are whole. What could not be written is `missed`.
        """
        runs = None if self._sqlite is not None else self._attempt_by_client("read the runs", self._list_runs)
        changed: set[int] = set()
        for contents in self._batches(records):
            lacking = [one for one in contents if not _is_shown((runs or {}).get(one.number, ()), one)]
            self._missed.difference_update({one.number for one in contents} - {one.number for one in lacking})
            changed |= self._record_batch(lacking)
        return len(changed)

    def _batches(self, records: Sequence[TrialRecord]) -> "Iterator[list[RunContent]]":
        for start in range(0, len(records), _BATCH):
            now = self._clock()
            yield [run_content(one, study=self._study, now_s=now) for one in records[start : start + _BATCH]]

    def missing_trials(self, study_trials: Iterable[FrozenTrial]) -> list[int]:
        """Return the numbers of the trials that MLflow lacks or shows in another state, ascending.

        A run takes its final status last, so one that has it is whole. A WAITING trial that has reported nothing is not
        missing, be it new or handed back before its first epoch. When the store is down, nothing can be said: the list
        holds every trial that should be there.
        """
        expected = [trial for trial in study_trials if trial.state != TrialState.WAITING or trial.intermediate_values]
        return missing_numbers(expected, self._attempt("read the runs", self._read_statuses) or {})

    def with_runs(self, what: str, action: "Callable[[MlflowClient, Mapping[int, Sequence[Run]]], _T]") -> _T | None:
        """Do something with MLflow's client and the study's runs, by trial number; None when the store is down."""
        return self._attempt_by_client(what, lambda: action(self._opened(), self._list_runs()))

    def attach_report(self, number: int, files: Sequence[Path]) -> bool:
        """Copy files into the ``report`` folder of a trial's run, in place of those of any run of the study.

        Returns:
            Whether they are there now; False when the store is down or lacks the run.
        """
        move = functools.partial(move_report, number=number, files=files, tracking_uri=self._tracking_uri)
        return self.with_runs(f"keep the report with trial {number}", move) or False

    def log_network(self, number: int, path: Path) -> str | None:
        """Make a trial's saved network a logged model of its run, once; return its id, or None as `attach_report`."""
        log = functools.partial(log_network, number=number, path=path, versions=self._study.versions)
        return self.with_runs(f"keep the network of trial {number}", log)

    def rename_experiment(self, new_name: str) -> bool:
        """Rename the study's experiment, so that a fresh one may take its name.

        One that holds other runs too stays: runs are told apart by their study's uid.

        Returns:
            Whether no experiment has the old name any more; False when the store is down or refuses.
        """

        def rename(client: "MlflowClient", experiment: "Experiment") -> bool:
            if experiment.lifecycle_stage == "active":
                if split_runs(client, experiment.experiment_id, study=self._study)[1]:
                    return False
                client.rename_experiment(experiment.experiment_id, new_name)
            return True

        return self._change_experiment(f"rename the experiment to {new_name!r}", rename)

    def delete_experiment(self) -> bool:
        """Move the study's experiment to MLflow's trash, under a name that leaves its own free.

        Of one that holds other runs too, only the study's runs go there.

        Returns:
            Whether the study's runs are gone; False when the store is down or refuses.
        """

        def delete(client: "MlflowClient", experiment: "Experiment") -> bool:
            own, has_others = split_runs(client, experiment.experiment_id, study=self._study)
            if has_others:
                for run_id in own:
                    client.delete_run(run_id)
            else:
                trash_experiment(client, experiment, now_s=self._clock())
            return True

        return self._change_experiment("delete the experiment", delete)

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

    def _change_experiment(self, what: str, change: "Callable[[MlflowClient, Experiment], bool]") -> bool:
        def change_it() -> bool:
            client = self._opened()
            experiment = client.get_experiment_by_name(self._study.name)
            done = experiment is None or change(client, experiment)
            self._forget()
            return done

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

    def _record_batch(self, contents: Sequence[RunContent]) -> set[int]:
        """Write some trials, and return the numbers of those whose runs lacked something."""
        plain = [content for content in contents if is_plain(content)] if self._sqlite is not None else []
        changed: set[int] = set()
        what = f"record trial {plain[0].number}" if len(plain) == 1 else f"record {len(plain)} trials"
        if len(plain) > 0:
            written = self._attempt(what, functools.partial(self._write_straight, plain))
            if written is not None:
                self._missed.difference_update(content.number for content in plain)
                contents = [content for content in contents if not is_plain(content)]
                changed |= written
        for content in contents:
            lacked = self._attempt_by_client(f"record trial {content.number}", functools.partial(self._write, content))
            if lacked is None:
                self._missed.add(content.number)
                continue
            self._missed.discard(content.number)
            if lacked:
                changed.add(content.number)
        return changed

    def _write_straight(self, contents: Sequence[RunContent]) -> frozenset[int] | None:
        """Write the runs and open the experiment without MLflow's client; None where only that can do it.

        Returns the numbers of the trials whose runs lacked something.
        """
        if self._sqlite is None:
            return None
        now = self._clock()
        experiment = self._sqlite.write(contents, now_s=now)
        if experiment is None and self._experiment_id is None:
            self._by_client(self._open_experiment)  # it is in the trash, or MLflow is to place its artifacts
            experiment = self._sqlite.write(contents, now_s=now)
        if experiment is None:
            return None
        self._experiment_id, self._view = str(experiment.experiment_id), experiment.view
        for content in contents:
            self._runs.pop(content.number, None)
        return experiment.changed

    def _write(self, content: RunContent) -> bool:
        """Write what a run lacks, and tell whether it lacked something."""
        client, experiment_id = self._opened(), self._open_experiment()
        known = self._runs.get(content.number)
        known = known or find_run(client, experiment_id, study_uid=self._study.uid, number=content.number)
        run = known or create_run(client, experiment_id, content)
        view = joined_view(self._view, content.view)
        if view is not None and view != self._view:
            set_tag(client, experiment_id, VIEW_TAG, view_tag(view, self._study))
            self._view = view
        lacked = fill_run(client, run, content)
        if content.end_ms is None:
            self._runs[content.number] = run
        else:
            self._runs.pop(content.number, None)
        return lacked or known is None


def _is_shown(runs: "Sequence[Run]", content: RunContent) -> bool:
    return len(runs) == 1 and is_whole(runs[0], content)
