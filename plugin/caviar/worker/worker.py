"""The worker: takes trials of a study, trains them with its crew, and stores what becomes of them."""

import functools
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, final

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..attributes import HELD, PAUSED
from ..errors import FatalError, SpecError, TrialFailed, ends_worker
from ..optuna_private import id_of_study, id_of_trial
from ..search.pruners import promotion_rule
from ..search.stages import plan_of_study
from ..storage.buffered_storage import BufferedStorage
from ..storage.leases import LeaseLost
from ..storage.tickets import Ticket
from .best_network import best_standing
from .crew import Crew
from .in_flight import Intake
from .interventions import Interventions
from .kept_leases import KeptLeases
from .mirroring import show_trials
from .patience import Patience, fail_reason, failures_in_a_row
from .promoter import Promoter
from .trial_in_hand import TrialInHand, draw_trial
from .trial_run import Decision, decide
from .worker_setup import WorkerSetup

_logger = logging.getLogger(__name__)

SYNC_S: Final = 1.0  # seconds between two writes to the database: a killed worker loses the reports of this time
_FIRST_POLL_S: Final = 0.05  # to the second look at a study whose last trials others run; each later pause is longer


@final
class Worker:
    """Runs trials of one study, alone or in fleets as its crew does, until the budget is spent or it is asked to stop.

    Samplers and pruners work on the study in memory. Every second, before a trial's first epoch and after its last, one
    transaction writes all changes; then MLflow shows the trials that ended. A trial that was lost leaves the crew.
    """

    def __init__(self, setup: WorkerSetup, crew: Crew) -> None:
        self._setup = setup
        self._crew = crew
        self._timings = crew.timings
        self._patience = Patience(setup.stop, poll_s=setup.poll_s)
        self._failures = 0  # in a row
        self._buffer = BufferedStorage(setup.storage, id_of_study(setup.study))
        self._leases = KeptLeases(self._buffer, lease_s=setup.spec.search.lease_s)
        self._study = optuna.Study(setup.study.study_name, storage=self._buffer, pruner=setup.pruner)
        rule = promotion_rule(setup.spec.search, epochs=setup.objective.epochs)
        direction, plan = setup.objective.direction, plan_of_study(setup.study, setup.spec.search)
        self._promoter = Promoter(
            self._study, setup.storage, rule, direction=direction, space=setup.spec.space, plan=plan
        )
        self._interventions = Interventions(crew, self._buffer, setup.checkpoints)
        self._intake = Intake(setup, self._buffer, self._promoter)
        self._best = best_standing(self._study, setup.objective.metric)
        self._left: list[FrozenTrial] = []  # trials that ended or were parked since the last write, as they were then
        self._has_news = False  # whether trials were announced since the last write
        self._poll_s = _FIRST_POLL_S  # until the next look at a study without work for this worker
        self._synced_at_s, self._checkpointed_at_s = time.monotonic(), 0.0  # the latter of training

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            FatalError: If trial after trial fails, or the study was deleted.
            StorageUnavailableError: If the study's database is full, or stays locked.
            SpecError: If the study's configuration turns out to be wrong; the trials in hand are handed back.
        """
        with self._leases.renewed():
            try:
                self._run()
            except (SpecError, FatalError, KeyboardInterrupt):
                self._leave()
                raise

    def _run(self) -> None:
        crew, setup = self._crew, self._setup
        while not setup.stop.is_set():
            if setup.should_end():
                self._hand_back({trial.ticket.trial_id for trial in crew.unbegun})
            if not crew.in_hand:
                if not self._sync():  # what has ended is another's too, until that is written
                    setup.stop.wait(setup.poll_s)
                elif setup.should_end() or not self._take_first():
                    break
                continue
            crew.regroup()
            if crew.is_free and self._intake.n_wanted(self._crew) > 0:
                self._sync()
                self._take_more()
            self._announce()
            self._train()
            is_due = self._timings.trained_s - self._checkpointed_at_s >= setup.spec.search.checkpoint_s
            if is_due or time.monotonic() - self._synced_at_s >= SYNC_S:
                self._sync()
                self._take_more()
                self._share()
            if is_due:
                self._checkpoint()
        self._leave()

    def _take_first(self) -> bool:
        """Claim trials when none is in hand; return False when nothing is left to do."""
        claimed = self._patience.outlast(lambda: self._claim(self._intake.n_wanted(self._crew)), what="take trials")
        if claimed is None or claimed == "done":
            return False
        if claimed == "wait":
            self._give_up(closing=True)
            with self._timings.phase("waiting_s"):
                self._setup.stop.wait(self._poll_s)
            self._poll_s = min(1.1 * self._poll_s, self._setup.poll_s)
        else:
            self._poll_s = _FIRST_POLL_S
            self._draw(claimed)
        return True

    def _take_more(self) -> None:
        while not self._setup.should_end():
            n = self._intake.n_wanted(self._crew)
            claimed = self._patience.attempt(functools.partial(self._claim, n), what="take trials") if n > 0 else None
            if claimed is None or isinstance(claimed, str):
                return
            self._draw(claimed)

    def _share(self) -> None:
        """Hand back trials that have not begun, if the other workers run out of trials."""
        n = self._intake.n_to_give(self._crew)
        self._hand_back({trial.ticket.trial_id for trial in self._crew.unbegun[-n:]} if n else ())

    def _claim(self, n: int) -> "list[Ticket] | Literal['wait', 'done']":
        with self._timings.phase("bookkeeping_s"):
            return self._intake.claim(n)

    def _draw(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if ticket.trial_id not in self._buffer.own_trials:
                continue  # its lease ran out between the claim and now
            self._buffer.hold(ticket.trial_id)
            try:
                with self._timings.phase("sampling_s"):
                    trial = draw_trial(ticket, self._setup, self._buffer)
            except StorageInternalError as error:  # a sampler that keeps something in the study
                self._patience.bear(error, what=f"draw trial {ticket.number}")
                self._hand_back({ticket.trial_id})
            except Exception as error:  # noqa: BLE001  an error in one sampler must not end the study
                self._fail(ticket, error)
            else:
                self._crew.waiting.append(trial)
                if not ticket.promoted and self._to_park([trial]):
                    self._settle({trial: Decision.PARK})  # its worker died before it judged or parked the trial

    def _announce(self) -> None:
        """Write the parameters of the trials that train next, in case one of them kills this worker."""
        for trial in self._crew.announce():
            self._buffer.release(trial.ticket.trial_id)
            self._has_news = True
        if self._has_news:
            self._write()

    def _train(self) -> None:
        crew = self._crew
        try:
            crew.board()
            self._intervene()
            done = [trial for trial in crew.running if trial.epochs >= trial.max_epochs]
            trained = crew.running
            metrics = [] if done else crew.run_epoch()
        except Exception as error:  # noqa: BLE001  an error in one network must not end the study
            failed = crew.running
            crew.remove(failed)
            for trial in failed:
                self._fail(trial.ticket, error)
            return
        if self._leases.have_run_out:
            self._leases.catch_up(self._sync, stop=self._setup.stop, poll_s=self._setup.poll_s)
            metrics = [values for trial, values in zip(trained, metrics, strict=False) if trial in crew.running]
            done = [trial for trial in done if trial in crew.running]
        with self._timings.phase("bookkeeping_s"):
            if done:  # their worker died after their last epoch
                self._settle(dict.fromkeys(done, Decision.COMPLETE))
            elif metrics:
                self._settle(self._decide(metrics))

    def _intervene(self) -> None:
        """Do what is asked of the running trials by hand."""
        for trial, outcome in self._interventions.carry_out().items():
            if isinstance(outcome, Decision):
                self._settle({trial: outcome})
            else:
                self._crew.remove([trial])
                self._fail(trial.ticket, TrialFailed(str(outcome)))

    def _decide(self, metrics: Sequence[Mapping[str, float]]) -> dict[TrialInHand, Decision]:
        """Report an epoch of the running trials, and decide what they do next; a trial whose pruner raises fails."""
        pruned: dict[TrialInHand, bool] = {}
        failed = []
        for trial, values in zip(self._crew.running, metrics, strict=True):
            try:
                pruned[trial] = not trial.run.record(values)
            except Exception as error:  # noqa: BLE001  a user's own pruner may raise anything
                self._fail(trial.ticket, error)
                failed.append(trial)
            else:
                keeps = self._setup.networks is not None and not pruned[trial] and trial.run.is_at_best
                if keeps and self._is_best(trial):
                    trial.best_state = self._crew.lane_state(trial)
        self._crew.remove(failed)
        parked = self._to_park([trial for trial, ends in pruned.items() if not ends])
        for trial in [trial for trial in pruned if trial.watched]:
            trial.run.store()
            self._save(trial)
        return {
            trial: decide(epochs=trial.epochs, max_epochs=trial.max_epochs, pruned=ends, parked=trial in parked)
            for trial, ends in pruned.items()
        }

    def _to_park(self, trials: Sequence[TrialInHand]) -> set[TrialInHand]:
        numbers = self._promoter.to_park({t.ticket.number: t.epochs for t in trials if not t.run.is_changed})
        return {trial for trial in trials if trial.ticket.number in numbers}

    def _settle(self, decisions: Mapping[TrialInHand, Decision]) -> None:
        """Do with each trial what was decided. The best ends first, since its network alone may be saved."""
        leaving = [trial for trial, decision in decisions.items() if decision is not Decision.GO_ON]
        for trial in sorted(leaving, key=lambda trial: trial.run.standing, reverse=True):
            decision, trial_id = decisions[trial], trial.ticket.trial_id
            trial.run.store()
            if decision is Decision.COMPLETE:
                self._save_network(trial)
                self._study.tell(trial.ticket.number, trial.run.best_value, state=TrialState.COMPLETE)
            elif decision is Decision.PRUNE:
                self._study.tell(trial.ticket.number, state=TrialState.PRUNED)
            self._left.append(self._buffer.get_trial(trial_id))
            if decision in (Decision.PARK, Decision.HOLD):
                self._save(trial)
                self._buffer.park(trial_id, mark=PAUSED if decision is Decision.PARK else HELD)
        self._crew.remove(leaving)

    def _is_best(self, trial: TrialInHand) -> bool:
        return self._best is None or trial.run.standing > self._best

    def _save_network(self, trial: TrialInHand) -> None:
        if self._is_best(trial):
            self._best = trial.run.standing
            if self._setup.networks is not None and trial.best_state is not None:
                self._setup.networks.save(trial.run, self._crew.best_model(trial))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """End a trial that raised as FAIL, unless this worker has lost it; raise an error that ends the worker."""
        if ends_worker(error):
            raise error
        reason = fail_reason(error)
        retries = 0 if isinstance(error, TrialFailed) else self._setup.spec.search.retries  # the space refuses it again
        _logger.warning("Trial %d failed: %s", ticket.number, reason)
        _logger.debug("Trial %d's traceback:", ticket.number, exc_info=error)
        fail = functools.partial(self._buffer.fail, ticket.trial_id, reason=reason, retries=retries)
        try:
            failed = self._patience.outlast(fail, what=f"fail trial {ticket.number}")
        except (LeaseLost, UpdateFinishedTrialError) as lost:
            _logger.warning("Trial %d is left alone: %s.", ticket.number, lost)
            return
        if failed is not None:
            self._finish([self._buffer.get_trial(ticket.trial_id)])

    def _sync(self) -> bool:
        """Write what is pending, and read what others did; return whether it was written."""
        written = self._write()
        self._synced_at_s = time.monotonic()
        if written:
            with self._timings.phase("bookkeeping_s"):
                self._patience.attempt(self._buffer.refresh, what="read the study")
                self._best = best_standing(self._study, self._setup.objective.metric)
                self._give_up()
        return written

    def _write(self) -> bool:
        """Write what is pending, and show MLflow what ended; return whether it was written."""
        with self._timings.phase("bookkeeping_s"):
            check = self._patience.attempt(self._leases.flush, what="store the trials")
            if check is None:
                return False
            self._has_news = False
            gone = check.lost | check.ended
            self._crew.remove([trial for trial in self._crew.in_hand if trial.ticket.trial_id in gone])
            left, self._left = [trial for trial in self._left if id_of_trial(trial) not in gone], []
            self._finish([trial for trial in left if trial.state.is_finished()])
            self._mirror([trial for trial in left if not trial.state.is_finished()])
            return True

    def _give_up(self, *, closing: bool = False) -> None:
        """End the parked trials that will never be promoted."""

        def give_up() -> list[FrozenTrial]:
            if trial_ids := self._promoter.give_up(closing=closing):
                self._buffer.read_anew(trial_ids)
            return [self._buffer.get_trial(trial_id) for trial_id in trial_ids]

        self._finish(self._patience.attempt(give_up, what="end parked trials") or [])

    def _finish(self, trials: Sequence[FrozenTrial]) -> None:
        """Do what is left to do for trials whose end is stored."""
        self._mirror(trials)
        for trial in trials:
            self._setup.checkpoints.forget(trial.number)
            self._timings.trials += 1
            self._setup.on_trial(trial)
        for trial in trials:
            self._failures = failures_in_a_row(self._failures, trial)

    def _mirror(
        self, trials: Sequence[FrozenTrial], curves: Mapping[int, Mapping[str, Sequence[float]]] | None = None
    ) -> None:
        show = functools.partial(show_trials, self._setup.mirror, self._study, trials, spec=self._setup.spec)
        self._patience.attempt(functools.partial(show, curves=curves), what="show what became of trials")

    def _save(self, trial: TrialInHand) -> bool:
        """Checkpoint a trial; return False if its last checkpoint is as new, or the trial may be another's by now."""
        if trial.epochs <= trial.saved_epochs or self._leases.have_run_out:
            return False
        trial.save(self._setup.checkpoints, self._crew.lane_state(trial))
        return True

    def _checkpoint(self) -> None:
        """Checkpoint the trials that have begun, and show them in MLflow; comes after a write."""
        self._checkpointed_at_s = self._timings.trained_s
        with self._timings.phase("bookkeeping_s"):
            saved = [trial for trial in self._crew.begun if self._save(trial)]
            shown = [self._buffer.get_trial(trial.ticket.trial_id) for trial in saved]
            self._mirror(shown, {trial.ticket.number: trial.run.curves for trial in saved})

    def _hand_back(self, trial_ids: Collection[int]) -> None:
        """Hand back trials with what they have reached; one that another worker took meanwhile stays there."""
        if not trial_ids:
            return
        self._crew.remove([trial for trial in self._crew.in_hand if trial.ticket.trial_id in trial_ids])
        with self._timings.phase("bookkeeping_s"):
            self._patience.outlast(lambda: self._buffer.hand_back(trial_ids), what=f"hand {len(trial_ids)} trials back")

    def _leave(self) -> None:
        """Checkpoint and hand back all that this worker holds, so that any worker may go on with it."""
        self._sync()
        self._checkpoint()
        self._hand_back(self._buffer.own_trials)
