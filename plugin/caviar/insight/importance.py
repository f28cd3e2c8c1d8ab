"""Measured importance: what separates the best trials from the rest, how sure that is, and the course's tiers."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from ..interventions import was_changed
from ..metrics import direction_of
from ..parameters import Parameter
from ..sampler_table import SAMPLERS
from .rows import best_reached
from .words import listed

#: With fewer, the five best trials, PED-ANOVA's minimum, are more than a quarter of all.
MIN_TRIALS = 20
_MIN_BEST = 5
_BEST_FRACTION = 0.1
_INTERVAL = (5.0, 95.0)
#: Share of the resamples that must agree on the order of two hyperparameters before it counts as settled.
_SURE = 0.95
#: Share of studies in which nothing matters, but some hyperparameter may seem to.
_CHANCE = 0.05
_FEW_TRIALS = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterImportance:
    """One hyperparameter's share of the whole measured importance, in [0, 1]; all shares sum to 1.

    ``low`` and ``high`` are the share's 5th and 95th percentile over resamples of the trials; ``above_chance`` is as
    the function has it. The ``tier`` is the course's, 1 to 3; 4 if the course does not rank it.
    """

    name: str
    tier: int
    share: float
    low: float
    high: float
    above_chance: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """What ``n_trials`` finished trials, pruned ones included, say about importance: most important first.

    ``best_fraction`` of them count as the best. ``samples`` are shares in [0, 1], (n_resamples, n_parameters). If
    nothing can be said, ``reason`` says why, and there are no ``parameters``.
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

    Pruned trials count with the best value that they reached. The measure asks only whether a trial belongs to the best
    tenth, and one that was behind others at the same epoch does not. Without the pruned trials it would compare
    survivors with each other, and miss whatever ruins a network.

    Args:
        trials: The study's; those that are neither complete nor pruned, reported nothing, or were changed by
            hand are left out.
        parameters: Everything that the space draws, as ``rows.drawn_parameters`` returns it.
        metric: The one that the study optimises.
        seed: Of the resampling.
        n_resamples: How many bootstrap resamples, and as many shuffles. None takes a hundred resamples, which place a
            90% interval to within a few points, or from 1,000 trials on fewer, at least 30. It also takes the shuffles
            that Holm's correction needs. 1,000 trials take some 8 s of CPU.

    Source:
        Watanabe et al., PED-ANOVA, IJCAI 2023, as Optuna has it; Efron & Tibshirani, An Introduction to the Bootstrap.
    """
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    finished = [trial for trial in ended if not was_changed(trial.user_attrs)]
    reached = [(t, value) for t in finished if (value := best_reached(t, metric=metric)) is not None]
    kept, values, n_trials = [trial for trial, _ in reached], [value for _, value in reached], len(reached)
    drawn = [p for p in parameters if any(p.parameter in trial.params for trial in kept)]
    reason = _why_not(values, drawn)
    if reason is not None:
        return Importance(n_trials=n_trials, reason=reason)
    fraction = max(_BEST_FRACTION, _MIN_BEST / n_trials)
    # With the bare minimum, a single shuffle that is larger by chance hides what matters; few trials make more cheap.
    least = round(len(drawn) / _CHANCE) - 1  # lets one of so many parameters stand out
    n_shuffles = n_resamples or (2 * least + 1 if n_trials <= _FEW_TRIALS else least)
    n_resamples = n_resamples or min(100, max(30, 100_000 // n_trials))
    rng = np.random.default_rng(seed)
    picked = rng.integers(n_trials, size=(n_resamples, n_trials))
    draws = np.stack([np.bincount(one, minlength=n_trials) for one in picked])
    names = [parameter.parameter for parameter in drawn]
    losses = np.asarray([direction_of(metric).cost(value) for value in values])
    once = np.ones(n_trials, dtype=int)
    measure = ped_anova(kept, names, best_fraction=fraction, copies=once)
    observed = measure(losses, once)
    if observed.sum() <= 0:
        reason = "The best trials are spread over every range just as all trials are, so no hyperparameter stands out."
        return Importance(n_trials=n_trials, reason=reason)
    measure_resample = ped_anova(kept, names, best_fraction=fraction, copies=np.maximum(draws.max(axis=0), 1))
    resampled = _shares(np.stack([measure_resample(losses, counts) for counts in draws]))
    above = above_chance(observed, np.stack([measure(rng.permutation(losses), once) for _ in range(n_shuffles)]))
    lows, highs = np.percentile(resampled, _INTERVAL, axis=0)
    shares = _shares(observed[None])[0]
    order = np.argsort(-shares, kind="stable").tolist()
    found = zip(drawn, *(array.tolist() for array in (shares, lows, highs, above)), strict=True)
    measured = [
        ParameterImportance(name=p.name, tier=p.tier, share=share, low=low, high=high, above_chance=is_above)
        for p, share, low, high, is_above in found
    ]
    return Importance(
        parameters=tuple(measured[i] for i in order),
        n_trials=n_trials,
        n_pruned=sum(trial.state == TrialState.PRUNED for trial in kept),
        best_fraction=fraction,
        samples=resampled[:, order],
    )


def ped_anova(
    trials: Sequence[FrozenTrial], names: Sequence[str], *, best_fraction: float, copies: NDArray[np.int_]
) -> Callable[[NDArray[np.float64], NDArray[np.int_]], NDArray[np.float64]]:
    """Return a function that measures how far the best trials' values of each parameter lie from all trials'.

    The function takes the trials' losses and how often each trial counts, at most its ``copies``, all (n_trials,), and
    returns a divergence of at least 0 for each name. It asks one study in memory, which holds the copies: Optuna leaves
    out trials whose target is infinite. A new study for each resample would take several times as long.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # bring scikit-learn

    study = optuna.create_study()
    bare = [optuna.trial.create_trial(params=t.params, distributions=t.distributions, value=0.0) for t in trials]
    origin = np.repeat(np.arange(len(trials)), copies)
    copy = np.concatenate([np.arange(n) for n in copies])
    study.add_trials([bare[place] for place in origin])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_fraction)

    def measure(losses: NDArray[np.float64], counts: NDArray[np.int_]) -> NDArray[np.float64]:
        targets = np.where(copy < counts[origin], losses[origin], np.inf).tolist()
        # Optuna warns that a target is minimised, as it is meant to be, and of conditions that few trials of a resample
        # meet, which the interval shows.
        with warnings.catch_warnings(action="ignore"):
            found = get_param_importances(
                study, evaluator=evaluator, params=list(names), target=lambda t: targets[t.number], normalize=False
            )
        return np.asarray([found[name] for name in names])

    return measure


def above_chance(observed: NDArray[np.float64], shuffled: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which measures, (n,), are larger than shuffles, (n_shuffles, n), explain.

    If nothing matters, any is in at most 5% of studies.

    Source:
        Phipson and Smyth, Permutation p-values should never be zero, 2010; Holm, Scandinavian Journal of Statistics
        1979.
    """
    p = (1 + (shuffled >= observed).sum(axis=0)) / (1 + len(shuffled))
    order = np.argsort(p, kind="stable")
    holds = np.logical_and.accumulate(p[order] * np.arange(len(p), 0, -1) <= _CHANCE * (1 + 1e-9))
    return np.isin(np.arange(len(p)), order[holds])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedPair:
    """Two hyperparameters whose order the course gives: it puts ``first`` in an earlier tier than ``second``.

    ``certainty`` is the share of the resamples in which ``first`` has the larger importance; the ``verdict`` is
    ``agrees``, ``differs`` or ``open``.
    """

    first: str
    second: str
    certainty: float
    verdict: str


def judge_pairs(importance: Importance) -> list[RankedPair]:
    """Judge the order of every two hyperparameters of different tiers.

    The data agree or differ only if 95% of the resamples have the same order, and the more important of the two is
    above chance.
    """
    ranked = [(index, p) for index, p in enumerate(importance.parameters) if p.tier < 4]
    pairs = []
    for i, first in sorted(ranked, key=lambda entry: (entry[1].tier, entry[0])):
        for j, second in ranked:
            if first.tier < second.tier:
                certainty = float(np.mean(importance.samples[:, i] > importance.samples[:, j]))
                agrees = certainty >= _SURE and first.above_chance
                differs = certainty <= 1 - _SURE and second.above_chance
                verdict = "agrees" if agrees else "differs" if differs else "open"
                pairs.append(RankedPair(first=first.name, second=second.name, certainty=certainty, verdict=verdict))
    return pairs


def tier_sentences(importance: Importance, *, sampler: str) -> list[str]:
    """Say how the measured importance compares with the course's tiers, and what the study's sampler hides of it."""
    if importance.reason is not None:
        return [importance.reason]
    top = importance.parameters[0]
    tier = f"puts it in tier {top.tier}" if top.tier < 4 else "does not rank it"
    sentences = [f"{top.name} has the largest share of the measured importance, {_percent(top)}. The course {tier}."]
    pairs = judge_pairs(importance)
    agreeing = [(pair.first, pair.second) for pair in pairs if pair.verdict == "agrees"]
    differing = [(pair.second, pair.first) for pair in pairs if pair.verdict == "differs"]
    sentences += [f"As the course says, {_orders(agreeing)}."] * bool(agreeing)
    sentences += [f"Unlike the course, this data set says that {_orders(differing)}."] * bool(differing)
    if n_open := len(pairs) - len(agreeing) - len(differing):
        which = f"{n_open} of the {len(pairs)} pairs that the course ranks"
        sentences.append(f"For {which}, the trials do not settle the order.")
    sentences += [
        f"The course does not rank {p.name}. Its share here is {_percent(p)}"
        + ("." if p.above_chance else ", which may be chance.")
        for p in importance.parameters[1:]
        if p.tier == 4
    ]
    faint = [p.name for p in importance.parameters if not p.above_chance and p.tier < 4]
    if faint:
        sentences.append(f"{listed(faint)}: no effect distinguishable from chance.")
    if sampler in SAMPLERS and not SAMPLERS[sampler].is_blind:
        sentences.append(
            f"The sampler {sampler} soon draws mostly good values, and a hyperparameter that hardly varies shows "
            'little importance. To measure importance over the full ranges, search with sampler = "random".'
        )
    return sentences


def _why_not(values: Sequence[float], drawn: Sequence[Parameter]) -> str | None:
    few = f"{len(values)} finished trials are too few to measure importance."
    if len(values) < MIN_TRIALS:
        return f"{few} It takes at least {MIN_TRIALS}, and a hundred are better."
    if len(set(values)) == 1:
        return f"All {len(values)} finished trials reached the same value, so no hyperparameter made a difference."
    if len(drawn) < 2:
        return "Only one hyperparameter was searched, so there is nothing to compare it with."
    return None


def _shares(divergences: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = divergences.sum(axis=1, keepdims=True)
    return np.asarray(divergences / np.where(totals > 0, totals, 1.0))


def _orders(pairs: Sequence[tuple[str, str]]) -> str:
    """Return ``a matters more than b and c; d matters more than e``."""
    over = {winner: [lower for upper, lower in pairs if upper == winner] for winner, _ in pairs}
    return "; ".join(f"{winner} matters more than {listed(losers)}" for winner, losers in over.items())


def _percent(parameter: ParameterImportance) -> str:
    return f"{parameter.share:.0%} ({parameter.low:.0%} to {parameter.high:.0%} in 90% of the resamples)"
