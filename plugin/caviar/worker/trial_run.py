"""One trial on its way: its curves, its best epoch, its reports, and what it does after each epoch."""

import enum
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import optuna

from ..attributes import BEST_EPOCH, BEST_VALUE, CURVES, DIVERGED, NETWORK_OUTPUT, TRAIN_SECONDS
from ..interventions import Intervention, as_attributes, is_changed
from ..metrics import direction_of

if TYPE_CHECKING:
    from ..networks import Output


class Decision(enum.Enum):
    """What a trial does next."""

    GO_ON = "go on"
    PARK = "park"
    HOLD = "hold"
    PRUNE = "prune"
    COMPLETE = "complete"


def decide(*, epochs: int, max_epochs: int, pruned: bool, parked: bool = False) -> Decision:
    """Return what a trial does next.

    ``pruned`` means that it diverged or that its pruner ends it, even after its last epoch; ``parked``, that it stands
    at a rung and must wait there for a promotion.
    """
    if pruned:
        return Decision.PRUNE
    if epochs >= max_epochs:
        return Decision.COMPLETE
    return Decision.PARK if parked else Decision.GO_ON


#: Keys of a checkpoint's notes: epochs trained in all, and how many interventions had taken effect.
TRAINED, N_APPLIED = "trained", "n_interventions"

Standing = tuple[float, int]  # a trial's merit; of two trials the greater is better


def standing(value: float, number: int, *, metric: str) -> Standing:
    """Return the merit of a trial: its value and, if equal, the lower number counts, as in Optuna."""
    return -direction_of(metric).cost(value), -number


def worst_case(metric: str, *, n_classes: int) -> float:
    """Return the finite value that a diverged trial reports: 0 for an accuracy, 10·ln C nats for a loss.

    NaN would make the trial FAIL and teach the sampler nothing. Any network that learns does better than ten times the
    loss of guessing among C classes.
    """
    return 10.0 * math.log(n_classes) if direction_of(metric) == "minimize" else 0.0


class TrialRun:
    """Reports one trial's epochs to Optuna and keeps its curves.

    The steps ``reported`` were reported by an earlier run of the trial. They are not reported again, and only the last
    of them is judged again, since that run may have died before it was judged. With ``tells_output``, the trial's
    attributes name the network's output. The ``interventions`` are what was changed by hand before: all of it takes
    effect again, each change where it did then, unless a checkpoint holds it. ``rewrite`` replaces a step's reported
    value, which Optuna's trial would not: a trial that went back reports steps again.
    """

    def __init__(
        self,
        trial: optuna.trial.BaseTrial,
        *,
        metric: str,
        n_classes: int,
        reported: Collection[int] = frozenset(),
        tells_output: bool = False,
        interventions: Collection[Intervention] = (),
        rewrite: Callable[[int, float], None] | None = None,
    ) -> None:
        self.trial = trial
        self.curves: dict[str, list[float]] = {}
        self.diverged = False
        self.train_seconds = 0.0
        self.output: Output = "logits"  # the network's, once its trainer is made
        self.trained = 0  # epochs in all: more than `epochs` if the trial went back
        self._interventions = list(interventions)
        self._n_applied = 0
        self._rewrite = rewrite
        self._tells_output = tells_output
        self._metric = metric
        self._n_classes = n_classes
        self._reported = frozenset(reported)

    @property
    def epochs(self) -> int:
        """How many epochs have been recorded."""
        return len(self.curves.get(self._metric, []))

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the best metric, or None before the first epoch."""
        curve = self.curves.get(self._metric)
        if not curve:
            return None
        return curve.index(min(curve, key=direction_of(self._metric).cost))

    @property
    def best_value(self) -> float | None:
        """The best epoch's metric, or None before the first epoch."""
        return None if self.best_epoch is None else self.curves[self._metric][self.best_epoch]

    @property
    def standing(self) -> Standing:
        """Its merit, were it to end now; the worst before the first epoch."""
        if self.best_value is None:
            return -math.inf, -self.trial.number
        return standing(self.best_value, self.trial.number, metric=self._metric)

    @property
    def is_at_best(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.best_epoch == self.epochs - 1

    @property
    def is_changed(self) -> bool:
        """Whether it was changed by hand: then no pruner ends it, and no rung parks it."""
        return is_changed(self._interventions)

    @property
    def due(self) -> Intervention | None:
        """The next intervention of an earlier worker, if it is to take effect again before the next epoch."""
        if self._n_applied == len(self._interventions):
            return None
        following = self._interventions[self._n_applied]
        return following if following.trained <= self.trained else None

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was changed before has taken effect: what is asked anew waits until then."""
        return self._n_applied == len(self._interventions)

    def apply(self, intervention: Intervention | None = None) -> None:
        """Note that a new intervention took effect, or without one that the `due` one did."""
        if intervention is not None:
            self._interventions.append(intervention)
        self._n_applied += 1
        for key, value in as_attributes(self._interventions).items():
            self.trial.set_user_attr(key, value)

    def step_back(self, notes: Mapping[str, Any]) -> None:
        """Go back to a checkpoint's epoch: its curves count, and later steps are reported anew."""
        self._reported = self._reported | frozenset(range(self.epochs))
        self.curves = {name: list(curve) for name, curve in notes[CURVES].items()}

    def record(self, metrics: Mapping[str, float]) -> bool:
        """Keep an epoch's metrics, report it, and ask the pruner; return whether the trial goes on.

        No pruner ends a trial that was changed by hand.

        The metrics are losses in nats and rates in [0, 1], not finite if training diverged.
        """
        epoch = self.epochs
        self.diverged = not all(math.isfinite(value) for value in metrics.values())
        for name, value in metrics.items():
            finite = value if math.isfinite(value) else worst_case(name, n_classes=self._n_classes)
            self.curves.setdefault(name, []).append(finite)
        if self.diverged:
            self.curves[self._metric][epoch] = worst_case(self._metric, n_classes=self._n_classes)
        self.trained += 1
        value = self.curves[self._metric][epoch]
        if epoch not in self._reported:
            self.trial.report(value, step=epoch)
        elif self.is_changed:
            if self._rewrite is not None:
                self._rewrite(epoch, value)
        elif epoch < max(self._reported):
            return not self.diverged
        return not (self.diverged or (not self.is_changed and self.trial.should_prune()))

    def store(self) -> None:
        """Set the user attributes that keep the trial besides its reports."""
        attributes = {
            CURVES: self.curves,
            BEST_VALUE: self.best_value,
            BEST_EPOCH: self.best_epoch,
            TRAIN_SECONDS: round(self.train_seconds, 3),
            **({NETWORK_OUTPUT: self.output} if self._tells_output else {}),
            **({DIVERGED: True} if self.diverged else {}),
        }
        for key, value in attributes.items():
            self.trial.set_user_attr(key, value)

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the run besides the network's state."""
        return {
            CURVES: self.curves,
            TRAIN_SECONDS: self.train_seconds,
            TRAINED: self.trained,
            N_APPLIED: self._n_applied,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's notes, and report the epochs that its worker could not report before it died."""
        self.curves = {name: list(curve) for name, curve in notes[CURVES].items()}
        self.train_seconds = float(notes[TRAIN_SECONDS])
        self.trained = int(notes.get(TRAINED, self.epochs))
        self._n_applied = min(int(notes.get(N_APPLIED, 0)), len(self._interventions))
        for epoch, value in enumerate(self.curves.get(self._metric, [])):
            if epoch not in self._reported:
                self.trial.report(value, step=epoch)
        self._reported = self._reported | frozenset(range(self.epochs))

    def begin_again(self) -> None:
        """Forget what was restored: the epochs are trained again, but not reported again."""
        self.curves, self.train_seconds, self.trained, self._n_applied = {}, 0.0, 0, 0
