"""The course's importance tiers against what was measured: where they agree, and where the data disagree."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..sampler_table import SAMPLERS
from .importance import Importance, ParameterImportance
from .words import listed

#: Share of the resamples that must agree on the order of two hyperparameters before it counts as settled.
_SURE = 0.95


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
    if agreeing:
        sentences.append(f"As the course says, {_orders(agreeing)}.")
    if differing:
        sentences.append(f"Unlike the course, this data set says that {_orders(differing)}.")
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


def _orders(pairs: Sequence[tuple[str, str]]) -> str:
    """Return ``a matters more than b and c; d matters more than e``."""
    over: dict[str, list[str]] = {}
    for winner, loser in pairs:
        over.setdefault(winner, []).append(loser)
    return "; ".join(f"{winner} matters more than {listed(losers)}" for winner, losers in over.items())


def _percent(parameter: ParameterImportance) -> str:
    return f"{parameter.share:.0%} ({parameter.low:.0%} to {parameter.high:.0%} in 90% of the resamples)"
