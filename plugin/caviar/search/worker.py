"""The worker: takes tickets, runs trials, tells their ends, and hands back what it cannot finish."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import optuna
from numpy import generic
from numpy.typing import NDArray
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..errors import CaviarError, FatalError, SpecError, StorageUnavailableError
from ..record.mlflow_mirror import MlflowMirror
from ..spec import StudySpec
from ..storage.checkpoints import Checkpoint, CheckpointStore
from ..storage.handing_back import fail_trial, hand_back
from ..storage.leased_storage import LeasedStorage, LeaseLost
from ..storage.schema import describe_outage, may_pass
from ..storage.tickets import Ticket, claim_ticket
from .best_network import BestEpochKeeper, NetworkFolder, State
from .mirroring import mirror_trial
from .objective import KerasObjective
from .samplers import SamplerFactory
from .trial_run import TrialRun

if TYPE_CHECKING:
    from ..training import Trainer

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Failed trials in a row, none completed between them, after which a worker gives up: the study itself is broken.
MAX_FAILURES_IN_A_ROW = 5

#: Seconds for which a worker tries to reach a database that is locked or out of reach, before it gives up. Long enough
#: for a backup or a server's restart.
PATIENCE_S = 900.0

#: What a checkpoint's arrays are named by: the network as it is, and as it was at its best epoch.
_LANE, _BEST = "lane/", "best/"


class _Stopped(CaviarError):  # noqa: N818  (what was asked, not an error)
    """The worker was asked to stop in the middle of a trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """Runs trials of one study, one at a time, until the budget is spent or it is asked to stop.

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
        deadline_s: Unix time after which no new trial starts, or None; the trial at hand is finished.
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
    poll_s: float = 1.0
    patience_s: float = PATIENCE_S

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            FatalError: If trial after trial fails, or the study was deleted.
            StorageUnavailableError: If the study's database is full, or stays locked.
            SpecError: If the study's configuration turns out to be wrong; the trial at hand is handed back.
        """
        failures = 0
        while not (self.stop.is_set() or self.share_done.is_set() or self._is_out_of_time()):
            ticket = self._outlast(self._claim, what="take a trial")
            if ticket is None or ticket == "done":
                return
            if ticket == "wait":
                self.stop.wait(self.poll_s)
                continue
            trial = self._run_ticket(ticket)
            if trial is None:
                continue
            self.on_trial(trial)
            failures = failures + 1 if trial.state == TrialState.FAIL else 0
            if failures >= MAX_FAILURES_IN_A_ROW:
                reason = trial.user_attrs.get("fail_reason", "")
                raise FatalError(
                    f"{failures} trials in a row failed, the last with: {reason} "
                    "Mend the cause and run the study again; what is done is kept."
                )

    def _claim(self) -> "Ticket | Literal['wait', 'done']":
        search = self.spec.search
        return claim_ticket(
            self.storage,
            self.study._study_id,
            budget=search.trials,
            lease_s=search.lease_s,
            retries=search.retries,
        )

    def _outlast(self, write: Callable[[], _T], *, what: str) -> _T | None:
        """Write to the study's database, trying again while it is locked; None where the worker is asked to stop.

        Raises:
            StorageUnavailableError: If it cannot be written and waiting is of no use, or was.
        """
        give_up_at_s = time.monotonic() + self.patience_s
        while True:
            try:
                return write()
            except StorageInternalError as error:
                outage = describe_outage(error)
                if not may_pass(error) or time.monotonic() >= give_up_at_s:
                    raise StorageUnavailableError(
                        f"The study's database cannot be written: {outage}. What is done is kept; mend the cause and "
                        "run the same command again."
                    ) from error
                _logger.warning("Could not %s, since the study's database is busy (%s). Trying again.", what, outage)
                if self.stop.wait(self.poll_s):
                    return None

    def _is_out_of_time(self) -> bool:
        return self.deadline_s is not None and time.time() >= self.deadline_s

    def _run_ticket(self, ticket: Ticket) -> FrozenTrial | None:
        """Run one trial to its end; None where it was handed back or lost."""
        try:
            with self._keep_lease(ticket) as lost:
                ended = self._run_trial(ticket, lost)
        except _Stopped:
            self._hand_back(ticket)
            return None
        except StorageInternalError as error:
            _logger.warning("Trial %d cannot be written: %s.", ticket.number, describe_outage(error))
            self._hand_back(ticket)
            return None
        except LeaseLost as error:
            _logger.warning("Trial %d is left alone: %s.", ticket.number, error)
            return None
        except UpdateFinishedTrialError:
            _logger.warning("Trial %d was ended from outside; its result is not stored.", ticket.number)
            return None
        except (SpecError, FatalError, KeyboardInterrupt):
            self._hand_back(ticket)
            raise
        if self.checkpoints is not None:
            self.checkpoints.remove(ticket.number)
        if self.mirror is not None:
            mirror_trial(self.mirror, ended, space=self.spec.space, metric=self.spec.objective.metric)
        return ended

    def _hand_back(self, ticket: Ticket) -> None:
        """Give the trial back, however long the database is locked; whoever took it meanwhile may keep it."""
        try:
            self._outlast(lambda: hand_back(self.storage, ticket.trial_id), what=f"hand trial {ticket.number} back")
        except LeaseLost as error:
            _logger.warning("Trial %d is left alone: %s.", ticket.number, error)

    def _run_trial(self, ticket: Ticket, lost: threading.Event) -> FrozenTrial:
        """Run one trial and tell its end, whatever it is.

        Raises:
            _Stopped: If the worker is to stop.
            LeaseLost: If the trial is no longer this worker's, or its study is gone.
            UpdateFinishedTrialError: If it was ended from outside.
            StorageInternalError: If the database could not be written.
        """
        try:
            self.study.sampler = self.make_sampler(ticket.origin)
            self.study.get_trials(deepcopy=False)  # Optuna's cache learns of the trial only by reading the study
            trial = optuna.Trial(self.study, ticket.trial_id)
            reported = frozenset(self._read(ticket).intermediate_values) if ticket.resumed else frozenset()
            session = _TrialSession(self, ticket, lost)
            try:
                value = self.objective.run(trial, origin=ticket.origin, reported=reported, hooks=session)
            except optuna.TrialPruned:
                return self.study.tell(trial, state=TrialState.PRUNED)
            return self.study.tell(trial, value, state=TrialState.COMPLETE)
        except (_Stopped, LeaseLost, UpdateFinishedTrialError, StorageInternalError, SpecError, FatalError):
            raise
        except Exception as error:  # noqa: BLE001  whatever one network raises must not end the study
            return self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: Exception) -> FrozenTrial:
        """End a trial that raised as FAIL, unless it raised because it was taken away.

        Optuna raises KeyError where a study was deleted and ValueError where a trial was ended from outside, as a
        network of the user's may: renewing the lease tells them apart.
        """
        self.storage.renew(ticket.trial_id)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        _logger.warning("Trial %d failed: %s", ticket.number, reason)
        _logger.debug("Trial %d's traceback:", ticket.number, exc_info=error)
        fail_trial(self.storage, self._read(ticket), reason=reason, retries=self.spec.search.retries)
        return self._read(ticket)

    def show_running(self, ticket: Ticket, *, curves: Mapping[str, Sequence[float]]) -> None:
        """Show in MLflow how far a long trial is.

        Raises:
            LeaseLost: If it is no longer this worker's: another may be making its run.
        """
        if self.mirror is None:
            return
        self.storage.renew(ticket.trial_id)
        search_space, metric = self.spec.space, self.spec.objective.metric
        mirror_trial(self.mirror, self._read(ticket), space=search_space, metric=metric, curves=curves)

    def _read(self, ticket: Ticket) -> FrozenTrial:
        return self.storage.get_trial(ticket.trial_id)

    @contextmanager
    def _keep_lease(self, ticket: Ticket) -> Iterator[threading.Event]:
        """Renew the lease from a thread: an epoch or a compilation may last longer than the lease."""
        done, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not done.wait(self.spec.search.lease_s / 3):
                try:
                    self.storage.renew(ticket.trial_id)
                except LeaseLost:
                    lost.set()
                    return
                except StorageInternalError as error:
                    outage = describe_outage(error)
                    _logger.warning("The lease on trial %d could not be renewed: %s.", ticket.number, outage)

        thread = threading.Thread(target=renew, name=f"lease-{ticket.number}", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()


class _TrialSession:
    """Watches one trial between its epochs: restores it, checkpoints it, and ends it when it is lost or must stop."""

    def __init__(self, worker: Worker, ticket: Ticket, lost: threading.Event) -> None:
        self._worker = worker
        self._ticket = ticket
        self._lost = lost
        self._saved_at_s = 0.0
        self._best = BestEpochKeeper(_best_value(worker.study), maximize=worker.objective.direction == "maximize")

    def begin(self, run: TrialRun, trainer: "Trainer") -> None:
        """Go on from the trial's last checkpoint, if it has one that fits."""
        checkpoints = self._worker.checkpoints
        checkpoint = checkpoints.load(self._ticket.number) if checkpoints and self._ticket.resumed else None
        if checkpoint is None:
            return
        try:
            trainer.load_lane_state(0, _part(checkpoint.state, _LANE))
        except ValueError as error:
            _logger.warning("Trial %d begins again: its checkpoint does not fit (%s).", self._ticket.number, error)
            return
        run.restore(checkpoint.notes)
        self._best.state = _part(checkpoint.state, _BEST) or None
        self._saved_at_s = run.train_seconds

    def after_epoch(self, run: TrialRun, trainer: "Trainer") -> None:
        """Checkpoint when it is due, and stop when the lease is lost or the worker is to stop."""
        if self._lost.is_set():
            self._worker.storage.renew(self._ticket.trial_id)  # says how it was lost
        if self._worker.networks is not None:
            self._best.after_epoch(run, trainer)
        stop = self._worker.stop.is_set()
        if stop or run.train_seconds - self._saved_at_s >= self._worker.spec.search.checkpoint_s:
            self._save(run, trainer)
        if stop:
            raise _Stopped

    def complete(self, run: TrialRun, trainer: "Trainer") -> None:
        """Save the network as it was at its best epoch, if it beats the study's best."""
        if self._worker.networks is not None and self._best.state is not None:
            trainer.load_lane_state(0, self._best.state)
            self._worker.networks.save(run.trial, trainer.lane_model(0))

    def _save(self, run: TrialRun, trainer: "Trainer") -> None:
        if self._worker.checkpoints is None:
            return
        state = {_LANE + key: value for key, value in trainer.lane_state(0).items()}
        state |= {_BEST + key: value for key, value in (self._best.state or {}).items()}
        checkpoint = Checkpoint(epochs=run.epochs, state=state, notes=run.notes())
        try:
            self._worker.checkpoints.save(self._ticket.number, checkpoint)
        except OSError as error:
            _logger.warning("Trial %d could not be checkpointed, and trains on: %s", self._ticket.number, error)
        self._saved_at_s = run.train_seconds
        self._worker.show_running(self._ticket, curves=run.curves)


def _part(state: State, prefix: str) -> dict[str, NDArray[generic]]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _best_value(study: optuna.Study) -> float | None:
    try:
        return study.best_value
    except ValueError:  # Optuna's word for a study without a complete trial
        return None
