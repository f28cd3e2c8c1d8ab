"""The worker that trains many trials at once, in fleets: the same guarantees as one at a time, lane by lane."""

import functools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..errors import FatalError, SpecError
from ..packing.cost_model import CostModel, DataShape
from ..packing.packing import Packer
from ..search.pruners import promotion_rule
from ..search.samplers import plan_of_study
from ..storage.buffered_storage import BufferedStorage
from ..storage.leased_storage import LeaseLost
from ..storage.tickets import Ticket, claim_tickets
from .fleet_crew import Crew, FleetTrial
from .fleet_trials import draw_trial
from .in_flight import count_open, trials_to_give, trials_to_take
from .mirroring import mirror_trial, mirror_trials
from .patience import Patience
from .promoter import Promoter
from .timings import Timings
from .trial_checkpoint import save_trial
from .worker_setup import FailuresInARow, WorkerSetup, best_value, keep_leases

if TYPE_CHECKING:
    from ..training import Metrics

_logger = logging.getLogger(__name__)

#: Seconds between two writes to the database, and so what a killed worker repeats of its trials' reports.
SYNC_S: Final = 1.0
#: Seconds to the second look at a study whose last trials others run; each look after that comes a tenth later.
_FIRST_POLL_S: Final = 0.05


@final
class FleetWorker:
    """Runs trials of one study in fleets, until the budget is spent or it is asked to stop.

    Samplers and pruners work on the study in memory; every second, and at the end, all changes are written in one
    transaction, and MLflow is told of the trials that ended. A trial that is lost meanwhile leaves its fleet alone.

    Args:
        setup: The study, and what its worker works with. Its objective trains in fleets.
        cost: This machine's prices.
        memory_bytes: What one fleet may take.
    """

    def __init__(self, setup: WorkerSetup, *, cost: CostModel, memory_bytes: int) -> None:
        self._setup = setup
        self._patience = Patience(setup.stop, patience_s=setup.patience_s, poll_s=setup.poll_s)
        self._failures = FailuresInARow()
        self._buffer = BufferedStorage(setup.storage, setup.study._study_id)
        self._study = optuna.Study(setup.study.study_name, storage=self._buffer, pruner=setup.study.pruner)
        rule = promotion_rule(setup.spec.search, epochs=setup.objective.epochs)
        minimize = setup.objective.direction == "minimize"
        plan = plan_of_study(setup.study, setup.spec.search)
        self._promoter = Promoter(
            self._study, setup.storage, rule, minimize=minimize, space=setup.spec.space, plan=plan
        )
        self.timings: Final = Timings()
        dataset = setup.objective.dataset
        data = DataShape(
            n_train=len(dataset.train.labels),
            n_validation=len(dataset.validation.labels),
            n_features=dataset.train.features[0].size,
            n_classes=dataset.n_classes,
        )
        packer = Packer(cost=cost, data=data, memory_bytes=memory_bytes, deepest=setup.objective.space.deepest)
        self._crew = Crew(setup.objective.programs, packer, self.timings, begin=self._begin)
        self._ended: list[FleetTrial] = []
        self._parked: list[FrozenTrial] = []  # as they were when they left their lanes
        self._has_begun = False
        self._poll_s = _FIRST_POLL_S  # to the next look at a study in which there is nothing to do
        self._synced_at_s = self._checkpointed_at_s = time.monotonic()

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            FatalError: If trial after trial fails, or the study was deleted.
            StorageUnavailableError: If the study's database is full, or stays locked.
            SpecError: If the study's configuration turns out to be wrong; the trials in hand are handed back.
        """
        with keep_leases(self._buffer.renew, lease_s=self._setup.spec.search.lease_s):
            try:
                self._run()
            except (SpecError, FatalError, KeyboardInterrupt):
                self._leave()
                raise

    def _run(self) -> None:
        while not self._setup.stop.is_set():
            if self._setup.should_end():
                self._hand_back(self._crew.unbegun)
            if not self._crew.in_hand:
                self._sync()
                if self._setup.should_end() or not self._take_trials():
                    return
                continue
            self._crew.regroup()
            if self._crew.is_free and self._n_wanted() > 0:
                self._sync()
                self._take_more()
            self._crew.fill()
            if self._has_begun:  # a trial that kills its worker must be known by then
                self._sync()
            self._run_epoch()
            if time.monotonic() - self._synced_at_s >= SYNC_S:
                self._sync()
                self._take_more()
                self._share()
            if time.monotonic() - self._checkpointed_at_s >= self._setup.spec.search.checkpoint_s:
                self._checkpoint()
        self._leave()

    def _take_trials(self) -> bool:
        """Claim trials for the empty hands; False when there is nothing left to do."""
        claimed = self._patience.outlast(lambda: self._claim(self._n_wanted()), what="take trials")
        if claimed is None or claimed == "done":
            return False
        if claimed == "wait":
            self._give_up(closing=True)
            with self.timings.phase("waiting_s"):
                self._setup.stop.wait(self._poll_s)
            self._poll_s = min(1.1 * self._poll_s, self._setup.poll_s)
        else:
            self._poll_s = _FIRST_POLL_S
            self._draw(claimed)
        return True

    def _take_more(self) -> None:
        """Claim trials where some of those in hand have ended."""
        while not self._setup.should_end():
            n = self._n_wanted()
            claimed = self._patience.attempt(functools.partial(self._claim, n), what="take trials") if n > 0 else None
            if claimed is None or isinstance(claimed, str):
                return
            self._draw(claimed)

    def _n_wanted(self) -> int:
        """Return how many trials to take now."""
        search, crew = self._setup.spec.search, self._crew
        left, running = count_open(self._study.get_trials(deepcopy=False), budget=search.trials)
        in_hand, set_aside = len(crew.in_hand), len(crew.set_aside)
        return trials_to_take(search, in_hand=in_hand, set_aside=set_aside, left=left, running=running)

    def _share(self) -> None:
        """Give fleets that have not begun back, where the other workers run out of trials."""
        search, in_hand = self._setup.spec.search, len(self._crew.in_hand)
        left, running = count_open(self._study.get_trials(deepcopy=False), budget=search.trials)
        unbegun = self._crew.unbegun
        n = trials_to_give(
            search, in_hand=in_hand, unbegun=len(unbegun), left=left, running=running, idle=self._buffer.n_idle
        )
        self._hand_back(unbegun[len(unbegun) - n :])

    def _claim(self, n: int) -> "list[Ticket] | Literal['wait', 'done']":
        """Claim trials: promoted ones where there are any, else those that wait or are new."""
        search = self._setup.spec.search
        with self.timings.phase("bookkeeping_s"):
            claimed: list[Ticket] | Literal["wait", "done"] = self._promoter.claim(n) or claim_tickets(
                self._setup.storage,
                self._setup.study._study_id,
                n=n,
                budget=search.trials,
                lease_s=search.lease_s,
                retries=search.retries,
                keeping=self._buffer.own_trials,
            )
            if claimed == "wait":  # no new trial is left to start
                self._buffer.refresh()
                claimed = self._promoter.claim(n, closing=True) or claimed
            if not isinstance(claimed, str):
                self._buffer.refresh()
        return claimed

    def _draw(self, tickets: Sequence[Ticket]) -> None:
        """Draw the hyperparameters of claimed trials; they wait for a place in a fleet."""
        with self.timings.phase("sampling_s"):
            for ticket in tickets:
                if ticket.trial_id not in self._buffer.own_trials:
                    continue  # its lease ran out between the claim and now
                self._buffer.hold(ticket.trial_id)
                try:
                    trial = draw_trial(ticket, self._setup, self._buffer, to_beat=best_value(self._study))
                    if not ticket.promoted and self._promoter.to_park({ticket.number: trial.run.epochs}):
                        self._park([trial])  # its worker died before it had judged, or parked it
                    else:
                        self._crew.waiting.append(trial)
                except (SpecError, FatalError):
                    raise
                except Exception as error:  # noqa: BLE001  whatever a sampler raises must not end the study
                    self._fail(ticket, error)

    def _begin(self, trial: FleetTrial) -> None:
        self._buffer.release(trial.ticket.trial_id)
        self._has_begun = True

    def _run_epoch(self) -> None:
        """Train the fleet for an epoch, and end the trials that are done."""
        if not self._crew.running:  # all were lost
            return
        done = [trial for trial in self._crew.running if trial.run.epochs >= self._setup.objective.epochs]
        if done:  # their last run died after the last epoch
            self._end(done, [])
            return
        try:
            metrics = self._crew.run_epoch()
        except SpecError:
            raise
        except Exception as error:  # noqa: BLE001  whatever one network raises must not end the study
            trial = self._crew.running[0]
            self._crew.remove([trial])
            self._fail(trial.ticket, error)
            return
        if metrics is not None:
            with self.timings.phase("bookkeeping_s"):
                self._record(metrics)

    def _record(self, metrics: "Sequence[Metrics]") -> None:
        completed: list[FleetTrial] = []
        others: list[FleetTrial] = []
        pruned, failed = [], []
        for trial, values in zip(self._crew.running, metrics, strict=True):
            try:
                goes_on = trial.run.record(values)
            except SpecError:
                raise
            except Exception as error:  # noqa: BLE001  a pruner of the user's
                failed.append((trial, error))
                continue
            if not goes_on:
                pruned.append(trial)
                continue
            if self._setup.networks is not None:
                self._crew.keep_best(trial)
            (completed if trial.run.epochs >= self._setup.objective.epochs else others).append(trial)
        self._crew.remove([trial for trial, _ in failed])
        for trial, mistake in failed:
            self._fail(trial.ticket, mistake)
        self._end(completed, pruned)
        to_park = self._promoter.to_park({trial.ticket.number: trial.run.epochs for trial in others})
        self._park([trial for trial in others if trial.ticket.number in to_park])

    def _park(self, trials: Sequence[FleetTrial]) -> None:
        """Let trials wait for their promotion from the next write on, with a checkpoint, and free their lanes."""
        for trial in trials:
            self._save(trial)
            for key, value in trial.run.attributes().items():
                trial.trial.set_user_attr(key, value)
            self._parked.append(self._buffer.get_trial(trial.ticket.trial_id))
            self._buffer.park(trial.ticket.trial_id)
        self._crew.remove(trials)

    def _end(self, completed: list[FleetTrial], pruned: list[FleetTrial]) -> None:
        """Tell the ends of running trials, and free their lanes. The best is told first: it alone may be saved."""
        completed.sort(key=self._rank)
        for trial in [*completed, *pruned]:
            for key, value in trial.run.attributes().items():
                trial.trial.set_user_attr(key, value)
            if trial in pruned:
                self._study.tell(trial.trial, state=TrialState.PRUNED)
                continue
            self._save_network(trial)
            self._study.tell(trial.trial, trial.run.best_value, state=TrialState.COMPLETE)
            for other in self._crew.in_hand:
                if other.keeper.beats(trial.run.best_value):
                    other.keeper.to_beat = trial.run.best_value
        self._crew.remove([*completed, *pruned])
        self._ended += [*completed, *pruned]

    def _rank(self, trial: FleetTrial) -> float:
        value = trial.run.best_value or 0.0
        return -value if self._setup.objective.direction == "maximize" else value

    def _save_network(self, trial: FleetTrial) -> None:
        if self._setup.networks is None or trial.keeper.state is None:
            return
        if trial.keeper.beats(trial.run.best_value):
            self._setup.networks.save(trial.trial, self._crew.best_model(trial))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """End a trial that raised as FAIL, unless it raised because it was taken away."""
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        _logger.warning("Trial %d failed: %s", ticket.number, reason)
        _logger.debug("Trial %d's traceback:", ticket.number, exc_info=error)
        retries = self._setup.spec.search.retries
        with self.timings.phase("bookkeeping_s"):
            try:
                failed = self._patience.outlast(
                    lambda: self._buffer.fail(ticket.trial_id, reason=reason, retries=retries),
                    what=f"fail trial {ticket.number}",
                )
            except (LeaseLost, UpdateFinishedTrialError) as lost:
                _logger.warning("Trial %d is left alone: %s.", ticket.number, lost)
                return
            if failed is not None:
                self._finish([self._buffer.get_trial(ticket.trial_id)])

    def _sync(self) -> None:
        """Write what is pending, tell MLflow what ended, and read what others did."""
        with self.timings.phase("bookkeeping_s"):
            check = self._patience.attempt(self._buffer.flush, what="store the trials")
            self._synced_at_s = time.monotonic()
            if check is None:
                return
            self._has_begun = False
            gone = check.lost | check.ended
            for trial_id in sorted(gone):
                how = "its lease was lost" if trial_id in check.lost else "it was ended from outside"
                _logger.warning("Trial %d is left alone: %s.", self._buffer.get_trial(trial_id).number, how)
            self._crew.remove([trial for trial in self._crew.in_hand if trial.ticket.trial_id in gone])
            stored = [trial for trial in self._ended if trial.ticket.trial_id not in gone]
            self._ended = []
            self._finish([self._buffer.get_trial(trial.ticket.trial_id) for trial in stored])
            parked, self._parked = [trial for trial in self._parked if trial._trial_id not in gone], []
            self._mirror(parked)
            self._patience.attempt(self._buffer.refresh, what="read the study")
            self._give_up()

    def _give_up(self, *, closing: bool = False) -> None:
        """End the parked trials that will never be promoted."""

        def give_up() -> list[FrozenTrial]:
            trial_ids = self._promoter.give_up(closing=closing)
            if trial_ids:
                self._buffer.refresh()
            return [self._buffer.get_trial(trial_id) for trial_id in trial_ids]

        self._finish(self._patience.attempt(give_up, what="end parked trials") or [])

    def _finish(self, trials: Sequence[FrozenTrial]) -> None:
        """Do what is left to do for trials whose end is stored."""
        self._mirror(trials)
        for trial in trials:
            if self._setup.checkpoints is not None:
                self._setup.checkpoints.remove(trial.number)
            self.timings.trials += 1
            self._setup.on_trial(trial)
        for trial in trials:
            self._failures.count(trial)

    def _mirror(self, trials: Sequence[FrozenTrial]) -> None:
        if self._setup.mirror is not None and trials:
            spec = self._setup.spec
            mirror_trials(self._setup.mirror, trials, space=spec.space, metric=spec.objective.metric)

    def _save(self, trial: FleetTrial) -> bool:
        """Keep what a trial that has begun has reached; False where that was kept already."""
        if trial.run.epochs <= trial.saved_epochs:
            return False
        if self._setup.checkpoints is not None:
            lane = self._crew.lane_state(trial)
            save_trial(self._setup.checkpoints, trial.ticket, trial.run, lane=lane, best=trial.keeper.state)
        trial.saved_epochs = trial.run.epochs
        return True

    def _checkpoint(self) -> None:
        """Keep what the trials that have begun have reached, and show it in MLflow."""
        self._checkpointed_at_s = time.monotonic()
        spec = self._setup.spec
        with self.timings.phase("bookkeeping_s"):
            for trial in [*self._crew.running, *self._crew.set_aside]:
                if self._save(trial) and self._setup.mirror is not None:
                    mirror_trial(
                        self._setup.mirror,
                        self._buffer.get_trial(trial.ticket.trial_id),
                        space=spec.space,
                        metric=spec.objective.metric,
                        curves=trial.run.curves,
                    )

    def _hand_back(self, trials: Sequence[FleetTrial]) -> None:
        """Give trials back, with what they have reached; whoever took one meanwhile may keep it."""
        if not trials:
            return
        ids = [trial.ticket.trial_id for trial in trials]
        self._crew.remove(list(trials))
        with self.timings.phase("bookkeeping_s"):
            self._patience.outlast(lambda: self._buffer.hand_back(ids), what=f"hand {len(ids)} trials back")

    def _leave(self) -> None:
        """Checkpoint and give back all trials in hand, so that any worker may go on with them."""
        self._sync()
        self._checkpoint()
        self._hand_back(self._crew.in_hand)
