"""The worker that trains one network at a time: takes tickets, runs trials, tells their ends, hands back the rest."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, final

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..errors import CaviarError, FatalError, SpecError
from ..search.pruners import promotion_rule
from ..search.samplers import plan_of_study
from ..storage.handing_back import fail_trial, hand_back
from ..storage.leased_storage import LeaseLost
from ..storage.parking import park
from ..storage.schema import describe_outage
from ..storage.tickets import Ticket, claim_ticket
from .best_network import BestEpochKeeper
from .mirroring import mirror_trial
from .patience import Patience
from .promoter import Promoter
from .trial_checkpoint import load_trial, save_trial
from .trial_run import TrialRun
from .worker_setup import FailuresInARow, WorkerSetup, best_value

if TYPE_CHECKING:
    from ..training import Trainer

_logger = logging.getLogger(__name__)


class _Parked(CaviarError):  # noqa: N818  (what was decided, not an error)
    """The trial at hand is to wait for its promotion."""


class _Stopped(CaviarError):  # noqa: N818  (what was asked, not an error)
    """The worker was asked to stop in the middle of a trial."""


@final
class SoloWorker:
    """Runs trials of one study, one at a time, until the budget is spent or it is asked to stop.

    Args:
        setup: The study, and what its worker works with.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._patience = Patience(setup.stop, patience_s=setup.patience_s, poll_s=setup.poll_s)
        self._failures = FailuresInARow()
        spec = setup.spec
        rule = promotion_rule(spec.search, epochs=spec.objective.epochs)
        minimize = spec.objective.direction == "minimize"
        plan = plan_of_study(setup.study, spec.search)
        self.promoter: Final = Promoter(
            setup.study, setup.storage, rule, minimize=minimize, space=setup.spec.space, plan=plan
        )

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            FatalError: If trial after trial fails, or the study was deleted.
            StorageUnavailableError: If the study's database is full, or stays locked.
            SpecError: If the study's configuration turns out to be wrong; the trial at hand is handed back.
        """
        while not self._setup.should_end():
            ticket = self._patience.outlast(self._claim, what="take a trial")
            if ticket is None or ticket == "done":
                return
            if ticket == "wait":
                self._give_up(closing=True)
                self._setup.stop.wait(self._setup.poll_s)
                continue
            trial = self._run_ticket(ticket)
            if trial is not None:
                self._finish(trial)
            self._give_up()

    def _claim(self) -> "Ticket | Literal['wait', 'done']":
        """Claim a trial: a promoted one where there is any, else one that waits or is new."""
        promoted = self.promoter.claim(1)
        claimed = promoted[0] if promoted else self._claim_other()
        if claimed == "wait":  # no new trial is left to start
            promoted = self.promoter.claim(1, closing=True)
        return promoted[0] if promoted else claimed

    def _claim_other(self) -> "Ticket | Literal['wait', 'done']":
        search = self._setup.spec.search
        return claim_ticket(
            self._setup.storage,
            self._setup.study._study_id,
            budget=search.trials,
            lease_s=search.lease_s,
            retries=search.retries,
        )

    def _run_ticket(self, ticket: Ticket) -> FrozenTrial | None:
        """Run one trial to its end; None where it was handed back or lost."""
        try:
            with self._keep_lease(ticket) as lost:
                ended = self._run_trial(ticket, lost)
        except _Stopped:
            self._hand_back(ticket)
            return None
        except _Parked:
            self._park(ticket)
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
        return ended

    def _finish(self, trial: FrozenTrial) -> None:
        """Do what is left to do for a trial whose end is stored.

        Raises:
            FatalError: If it is one failure too many.
        """
        spec = self._setup.spec
        if self._setup.checkpoints is not None:
            self._setup.checkpoints.remove(trial.number)
        if self._setup.mirror is not None:
            mirror_trial(self._setup.mirror, trial, space=spec.space, metric=spec.objective.metric)
        self._setup.on_trial(trial)
        self._failures.count(trial)

    def _park(self, ticket: Ticket) -> None:
        """Let the trial wait for its promotion, its run in MLflow open; whoever took it meanwhile may keep it."""
        check = self._patience.outlast(
            lambda: park(self._setup.storage, ticket.trial_id), what=f"park trial {ticket.number}"
        )
        if check is not None and not check.held:
            _logger.warning("Trial %d is left alone: its lease was lost, or it was ended.", ticket.number)

    def _give_up(self, *, closing: bool = False) -> None:
        """End the parked trials that will never be promoted."""
        ended = self._patience.attempt(lambda: self.promoter.give_up(closing=closing), what="end parked trials")
        for trial_id in ended or ():
            self._finish(self._setup.storage.get_trial(trial_id))

    def _hand_back(self, ticket: Ticket) -> None:
        """Give the trial back, however long the database is locked; whoever took it meanwhile may keep it."""
        try:
            self._patience.outlast(
                lambda: hand_back(self._setup.storage, ticket.trial_id), what=f"hand trial {ticket.number} back"
            )
        except LeaseLost as error:
            _logger.warning("Trial %d is left alone: %s.", ticket.number, error)

    def _run_trial(self, ticket: Ticket, lost: threading.Event) -> FrozenTrial:
        """Run one trial and tell its end, whatever it is.

        Raises:
            _Parked: If the trial is to wait for its promotion.
            _Stopped: If the worker is to stop.
            LeaseLost: If the trial is no longer this worker's, or its study is gone.
            UpdateFinishedTrialError: If it was ended from outside.
            StorageInternalError: If the database could not be written.
        """
        try:
            self._setup.study.sampler = self._setup.make_sampler(ticket.origin)
            self._setup.study.get_trials(deepcopy=False)  # Optuna's cache learns of the trial only by reading the study
            trial = optuna.Trial(self._setup.study, ticket.trial_id)
            reported = frozenset(self._read(ticket).intermediate_values) if ticket.resumed else frozenset()
            session = _TrialSession(self, self._setup, ticket, lost)
            try:
                value = self._setup.objective.run(trial, origin=ticket.origin, reported=reported, hooks=session)
            except optuna.TrialPruned:
                return self._setup.study.tell(trial, state=TrialState.PRUNED)
            return self._setup.study.tell(trial, value, state=TrialState.COMPLETE)
        except (_Parked, _Stopped, LeaseLost, UpdateFinishedTrialError, StorageInternalError, SpecError, FatalError):
            raise
        except Exception as error:  # noqa: BLE001  whatever one network raises must not end the study
            return self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: Exception) -> FrozenTrial:
        """End a trial that raised as FAIL, unless it raised because it was taken away.

        Optuna raises KeyError where a study was deleted and ValueError where a trial was ended from outside, as a
        network of the user's may: renewing the lease tells them apart.
        """
        self._setup.storage.renew(ticket.trial_id)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        _logger.warning("Trial %d failed: %s", ticket.number, reason)
        _logger.debug("Trial %d's traceback:", ticket.number, exc_info=error)
        fail_trial(self._setup.storage, self._read(ticket), reason=reason, retries=self._setup.spec.search.retries)
        return self._read(ticket)

    def show_running(self, ticket: Ticket, *, curves: Mapping[str, Sequence[float]]) -> None:
        """Show in MLflow how far a long trial is.

        Raises:
            LeaseLost: If it is no longer this worker's: another may be making its run.
        """
        if self._setup.mirror is None:
            return
        self._setup.storage.renew(ticket.trial_id)
        search_space, metric = self._setup.spec.space, self._setup.spec.objective.metric
        mirror_trial(self._setup.mirror, self._read(ticket), space=search_space, metric=metric, curves=curves)

    def _read(self, ticket: Ticket) -> FrozenTrial:
        return self._setup.storage.get_trial(ticket.trial_id)

    @contextmanager
    def _keep_lease(self, ticket: Ticket) -> Iterator[threading.Event]:
        """Renew the lease from a thread: an epoch or a compilation may last longer than the lease."""
        done, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not done.wait(self._setup.spec.search.lease_s / 3):
                try:
                    self._setup.storage.renew(ticket.trial_id)
                except (LeaseLost, FatalError):
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

    def __init__(self, worker: SoloWorker, setup: WorkerSetup, ticket: Ticket, lost: threading.Event) -> None:
        self._worker = worker
        self._setup = setup
        self._ticket = ticket
        self._lost = lost
        self._saved_at_s = 0.0
        self._best = BestEpochKeeper(best_value(setup.study), maximize=setup.objective.direction == "maximize")

    def begin(self, run: TrialRun, trainer: "Trainer") -> None:
        """Go on from the trial's last checkpoint, if it has one that fits."""
        saved = load_trial(self._setup.checkpoints, self._ticket)
        if saved is None:
            return
        try:
            trainer.load_lane_state(0, saved.lane)
        except ValueError as error:
            _logger.warning("Trial %d begins again: its checkpoint does not fit (%s).", self._ticket.number, error)
            return
        run.restore(saved.notes)
        self._best.state = saved.best
        self._saved_at_s = run.train_seconds
        if not self._ticket.promoted:  # its worker may have died before it had judged, or parked it
            self._judge(run, trainer)

    def after_epoch(self, run: TrialRun, trainer: "Trainer") -> None:
        """Checkpoint when it is due, and stop when the lease is lost or the worker is to stop."""
        if self._lost.is_set():
            self._setup.storage.renew(self._ticket.trial_id)  # says how it was lost
        if self._setup.networks is not None:
            self._best.after_epoch(run, trainer)
        stop = self._setup.stop.is_set()
        if stop or run.train_seconds - self._saved_at_s >= self._setup.spec.search.checkpoint_s:
            self._save(run, trainer)
        if stop:
            raise _Stopped
        self._judge(run, trainer)

    def _judge(self, run: TrialRun, trainer: "Trainer") -> None:
        """Park the trial if it stands at a rung and is not to go on."""
        if not self._worker.promoter.to_park({self._ticket.number: run.epochs}):
            return
        for key, value in run.attributes().items():
            run.trial.set_user_attr(key, value)
        self._save(run, trainer)
        raise _Parked

    def complete(self, run: TrialRun, trainer: "Trainer") -> None:
        """Save the network as it was at its best epoch, if it beats the study's best."""
        if self._setup.networks is not None and self._best.state is not None:
            trainer.load_lane_state(0, self._best.state)
            self._setup.networks.save(run.trial, trainer.lane_model(0))

    def _save(self, run: TrialRun, trainer: "Trainer") -> None:
        if self._setup.checkpoints is not None:
            save_trial(self._setup.checkpoints, self._ticket, run, lane=trainer.lane_state(0), best=self._best.state)
        self._saved_at_s = run.train_seconds
        self._worker.show_running(self._ticket, curves=run.curves)
