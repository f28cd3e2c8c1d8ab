"""Measured importance: which hyperparameters separate the best trials from the rest, and how sure that is."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from ..metrics import direction_of
from ..parameters import Parameter
from .rows import best_reached

if TYPE_CHECKING:
    import optuna

#: Below this, five best trials, which PED-ANOVA wants at the least, are more than a quarter of all.
MIN_TRIALS = 20
_MIN_BEST = 5
_BEST_FRACTION = 0.1
_INTERVAL = (5.0, 95.0)
#: Share of studies in which nothing matters, but a hyperparameter may seem to.
_CHANCE = 0.05
_FEW_TRIALS = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterImportance:
    """One hyperparameter's importance.

    Attributes:
        name: The hyperparameter.
        tier: The course's, 1 to 3; 4 where it ranks none.
        share: Of the whole measured importance, in [0, 1]; all shares sum to 1.
        low: Its 5th percentile over resamples of the trials.
        high: Its 95th percentile.
        above_chance: Whether it is larger than shuffles explain, in which each trial is given another's value: where
            nothing matters, any one hyperparameter is so in at most 5 % of studies.
    """

    name: str
    tier: int
    share: float
    low: float
    high: float
    above_chance: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """What the trials say about importance.

    Attributes:
        parameters: From the most important on; empty where nothing can be said.
        reason: Why nothing can be said, or None.
        n_trials: Finished trials that it rests on.
        n_pruned: How many of them were pruned.
        best_fraction: Share of them that count as the best.
        samples: Shares by resample and parameter in the order of ``parameters``; (n_resamples, n_parameters), in
            [0, 1].
    """

    parameters: tuple[ParameterImportance, ...] = ()
    reason: str | None = None
    n_trials: int
    n_pruned: int = 0
    best_fraction: float = 0.0
    samples: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros((0, 0)), compare=False)


def measure_importance(
    trials: Sequence[FrozenTrial],
    parameters: Sequence[Parameter],
    *,
    metric: str,
    seed: int,
    n_resamples: int | None = None,
) -> Importance:
    """Measure which hyperparameters separate the best tenth of the trials from all of them.

    Pruned trials count with the best value that they reached. Only the membership in the best tenth enters the
    measure, not the values, and a trial that was behind others at equal epochs belongs outside. Leaving them out
    would measure what separates survivors from each other, and of what ruins a network nothing would be seen.

    Args:
        trials: The study's; those that are neither complete nor pruned, or that reported nothing, are left out.
        parameters: What the space draws, as ``axes.drawn_parameters`` gives it.
        metric: Which the study optimises.
        seed: Of the resampling.
        n_resamples: Of the trials, with replacement, and as many shuffles. None takes a hundred, which place a 90 %
            interval within a few points, and of more than 1,000 trials, whose intervals are narrow, fewer, at least
            30; and as many shuffles as Holm's correction needs: some 15 s of 1,000 trials.

    Source:
        Watanabe et al., PED-ANOVA, IJCAI 2023, as Optuna has it; Efron & Tibshirani, An Introduction to the Bootstrap.
    """
    valued = [
        (trial, value)
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and (value := best_reached(trial, metric=metric)) is not None
    ]
    n_trials = len(valued)
    drawn = [p for p in parameters if any(p.parameter in trial.params for trial, _ in valued)]
    reason = _why_not(n_trials, [value for _, value in valued], drawn)
    if reason is not None:
        return Importance(n_trials=n_trials, reason=reason)
    kept = [trial for trial, _ in valued]
    values = np.asarray([value for _, value in valued])
    names = [parameter.parameter for parameter in drawn]
    fraction = max(_BEST_FRACTION, _MIN_BEST / n_trials)
    rng = np.random.default_rng(seed)

    def measure(chosen: Sequence[FrozenTrial], their_values: NDArray[np.float64]) -> NDArray[np.float64]:
        return _divergences(chosen, their_values, names, metric=metric, best_fraction=fraction)

    observed = measure(kept, values)
    if observed.sum() <= 0:
        return Importance(n_trials=n_trials, reason="The best trials are spread over every range as all trials are.")
    n_shuffles = n_resamples or _shuffles_needed(len(names), n_trials=n_trials)
    n_resamples = n_resamples or min(100, max(30, 100_000 // n_trials))
    draws = [rng.integers(n_trials, size=n_trials) for _ in range(n_resamples)]
    resampled = _shares(np.stack([measure([kept[i] for i in draw], values[draw]) for draw in draws]))
    shuffled = np.stack([measure(kept, rng.permutation(values)) for _ in range(n_shuffles)])
    above = above_chance(observed, shuffled)
    lows, highs = np.percentile(resampled, _INTERVAL, axis=0)
    shares = _shares(observed[None])[0]
    order = [int(index) for index in np.argsort(-shares, kind="stable")]
    return Importance(
        parameters=tuple(
            ParameterImportance(
                name=drawn[i].name,
                tier=drawn[i].tier,
                share=float(shares[i]),
                low=float(lows[i]),
                high=float(highs[i]),
                above_chance=bool(above[i]),
            )
            for i in order
        ),
        n_trials=n_trials,
        n_pruned=sum(trial.state == TrialState.PRUNED for trial in kept),
        best_fraction=fraction,
        samples=resampled[:, order],
    )


def above_chance(observed: NDArray[np.float64], shuffled: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which measures are larger than shuffles explain, one false alarm or more in at most 5 % of all cases.

    Args:
        observed: (n,).
        shuffled: The same measures where nothing matters, (n_shuffles, n).

    Returns:
        (n,).

    Source:
        Phipson and Smyth, Permutation p-values should never be zero, 2010; Holm, Scandinavian Journal of Statistics
        1979.
    """
    p = (1 + (shuffled >= observed).sum(axis=0)) / (1 + len(shuffled))
    order = np.argsort(p, kind="stable")
    holds = np.logical_and.accumulate(p[order] * np.arange(len(p), 0, -1) <= _CHANCE * (1 + 1e-9))
    above = np.zeros(len(p), dtype=bool)
    above[order[holds]] = True
    return above


def _shuffles_needed(n_parameters: int, *, n_trials: int) -> int:
    """Return how many shuffles let one of so many parameters stand out; twice these where few trials make them cheap.

    With the least that can do so, a single shuffle that is larger by chance hides what matters.
    """
    least = round(n_parameters / _CHANCE) - 1
    return 2 * least + 1 if n_trials <= _FEW_TRIALS else least


def _why_not(n_trials: int, values: Sequence[float], drawn: Sequence[Parameter]) -> str | None:
    if n_trials < MIN_TRIALS:
        return (
            f"{n_trials} finished trials say nothing reliable about importance; at least {MIN_TRIALS} are needed, "
            "a hundred are better."
        )
    if len(set(values)) == 1:
        return f"All {n_trials} finished trials reached the same value, so nothing can be said to matter."
    if len(drawn) < 2:
        return "Only one hyperparameter was searched, so there is nothing to compare it with."
    return None


def _shares(divergences: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = divergences.sum(axis=1, keepdims=True)
    return np.asarray(divergences / np.where(totals > 0, totals, 1.0))


def _divergences(
    trials: Sequence[FrozenTrial],
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    metric: str,
    best_fraction: float,
) -> NDArray[np.float64]:
    """Return each parameter's divergence between the best trials and all, (n_parameters,), at least 0."""
    from optuna.importance import PedAnovaImportanceEvaluator  # brings scikit-learn

    study = cast("optuna.Study", _TrialsOnly(trials, values, metric=metric))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a condition that few trials of a resample meet; the interval shows it
        present = {name for trial in trials for name in trial.distributions}
        found = PedAnovaImportanceEvaluator(target_quantile=best_fraction).evaluate(
            study, [name for name in names if name in present]
        )
    return np.asarray([found.get(name, 0.0) for name in names])


@dataclasses.dataclass(slots=True)
class _Counted:
    """What PED-ANOVA asks of a trial."""

    _trial_id: int  # one that was drawn twice is two trials, and Optuna tells them by this name
    params: dict[str, Any]
    distributions: dict[str, Any]
    value: float

    @property
    def values(self) -> list[float]:
        return [self.value]


class _TrialsOnly:
    """What PED-ANOVA asks of a study. A real one would copy every trial of every resample, which takes minutes."""

    def __init__(self, trials: Sequence[FrozenTrial], values: NDArray[np.float64], *, metric: str) -> None:
        self.directions = [direction_of(metric).optuna]
        self._trials = [
            _Counted(index, trial.params, trial.distributions, value)
            for index, (trial, value) in enumerate(zip(trials, values.tolist(), strict=True))
        ]

    def get_trials(self, **_: Any) -> list[_Counted]:
        return self._trials

    def _is_multi_objective(self) -> bool:
        return False
