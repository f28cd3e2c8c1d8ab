"""The course's importance tiers against what was measured: where they agree, and where the data says otherwise."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..sampler_table import SAMPLERS
from .importance import Importance, ParameterImportance

#: An order of two hyperparameters is stated only where this share of the resamples has it.
_SURE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One pair that the course ranks.

    Attributes:
        first: The hyperparameter of the earlier tier.
        second: That of a later one.
        certainty: Share of the resamples in which ``first`` has the larger importance.
        verdict: ``agrees``, ``differs`` or ``open``.
    """

    first: str
    second: str
    certainty: float
    verdict: str


def compare_with_tiers(importance: Importance) -> list[Comparison]:
    """Compare every two hyperparameters of different tiers.

    The data agrees, or differs, only where 95 % of the resamples have the order and the more important one of the
    two is above chance.
    """
    ranked = [(index, p) for index, p in enumerate(importance.parameters) if p.tier < 4]
    comparisons = []
    for i, first in sorted(ranked, key=lambda entry: (entry[1].tier, entry[0])):
        for j, second in ranked:
            if first.tier < second.tier:
                certainty = float(np.mean(importance.samples[:, i] > importance.samples[:, j]))
                agrees = certainty >= _SURE and first.above_chance
                differs = certainty <= 1 - _SURE and second.above_chance
                verdict = "agrees" if agrees else "differs" if differs else "open"
                comparisons.append(
                    Comparison(first=first.name, second=second.name, certainty=certainty, verdict=verdict)
                )
    return comparisons


def tier_sentences(importance: Importance, *, sampler: str) -> list[str]:
    """Say in words how the measured importance stands to the course's tiers.

    Args:
        importance: The measured one.
        sampler: The study's, whose choices limit what can be seen.
    """
    if importance.reason is not None:
        return [importance.reason]
    top = importance.parameters[0]
    sentences = [
        f"{top.name} holds {_percent(top)} of the measured importance, more than any other; the course has it in "
        + (f"tier {top.tier}." if top.tier < 4 else "no tier.")
    ]
    comparisons = compare_with_tiers(importance)
    agreeing = [c for c in comparisons if c.verdict == "agrees"]
    differing = [c for c in comparisons if c.verdict == "differs"]
    if agreeing:
        sentences.append("As the course has it: " + "; ".join(_orders(agreeing, swap=False)) + ".")
    if differing:
        sentences.append("This data set says otherwise: " + "; ".join(_orders(differing, swap=True)) + ".")
    n_open = len(comparisons) - len(agreeing) - len(differing)
    if n_open:
        sentences.append(
            f"{'No' if n_open == len(comparisons) else 'Of the rest no'} order is sure: {n_open} of the "
            f"{len(comparisons)} pairs that the course ranks are open, since fewer than 95 % of the resamples agree."
        )
    unranked = [p for p in importance.parameters if p.tier == 4]
    sentences += [f"The course does not rank {p.name}: {_percent(p)}{_chance(p)}." for p in unranked]
    faint = [p.name for p in importance.parameters if not p.above_chance and p.tier < 4]
    if faint:
        sentences.append(f"Not told from chance here: {_listed(faint)}.")
    if sampler in SAMPLERS and not SAMPLERS[sampler].is_blind:
        sentences.append(
            f"{sampler} soon draws only where it is good, and what hardly varies shows little importance: for the "
            'course\'s question in its pure form, search with sampler = "random".'
        )
    return sentences


def _orders(comparisons: Sequence[Comparison], *, swap: bool) -> list[str]:
    """Return ``a over b and c`` for every a."""
    over: dict[str, list[str]] = {}
    for comparison in comparisons:
        winner, loser = (comparison.second, comparison.first) if swap else (comparison.first, comparison.second)
        over.setdefault(winner, []).append(loser)
    return [f"{winner} matters more than {_listed(losers)}" for winner, losers in over.items()]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(parameter: ParameterImportance) -> str:
    return f"{parameter.share:.0%} ({parameter.low:.0%} to {parameter.high:.0%})"


def _chance(parameter: ParameterImportance) -> str:
    return "" if parameter.above_chance else ", not told from chance"
