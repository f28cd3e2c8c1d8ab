"""How one parameter's range or choices shrink, or grow again, around the best trials' values."""

import dataclasses
import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Any

from ..errors import SpecError
from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, complement
from .sequences import position_of, value_at

_NEGLIGIBLE = 0.05  # a range that would change by less than this share of itself stays as it is
_DIGITS = 3
#: If the best trial lies within this share of an end, of the range searched or of the best trials' values, there is
#: room beyond that end.
_EDGE = 0.1
_WIDEN = 0.25  # how much room, as a share of the width of the best trials' values
MIN_WIDTH = 0.02  # no range is narrowed below this share of the first study's, on its own scale
MIN_TRIALS = 5  # trials with a result without which nothing can be said


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomRule:
    """How a space is narrowed; raises SpecError if a number is outside its range."""

    keep: float = 0.2  # share of the trials, in (0, 1), that counts as the best, and that the narrower space holds
    # Most trials that count as the best, at least 2: of hundreds of trials the best fifth spans nearly every range.
    max_best: int | None = None
    # A parameter is narrowed only if the best trials' values would lie as close together with at most this probability
    # had it no influence. 0 narrows nothing, 1 everything.
    doubt: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise SpecError(f"keep must lie between 0 and 1, but got {self.keep}.")
        if not 0 <= self.doubt <= 1:
            raise SpecError(f"doubt must lie in [0, 1], but got {self.doubt}.")
        if self.max_best is not None and self.max_best < 2:
            raise SpecError(f"max_best must be at least 2, but got {self.max_best}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrowed:
    """A parameter, perhaps unchanged, and what happened to it in words.

    ``share`` is what is left of the old range or choices, on the parameter's own scale; above 1 where it grew.
    """

    parameter: Parameter
    share: float
    note: str


def narrow_choices(parameter: ChoiceParameter, best: Sequence[Any], rest: Sequence[Any], *, doubt: float) -> Narrowed:
    """Drop the choices that none of the best trials has, unless they were tried too seldom to have lost.

    A choice stays if, had it no influence, it would be missing among the best with a probability above ``doubt``.
    """
    k, n = len(best), len(best) + len(rest)
    # Counted, as below: scipy.stats, which knows this distribution (hypergeom), would take each worker 0.7 s to load.
    likely = Fraction(doubt) * math.comb(n, k)
    kept = tuple(
        choice
        for choice in parameter.choices
        if not best or choice in best or math.comb(n - rest.count(choice), k) > likely
    )
    dropped = [str(choice) for choice in parameter.choices if choice not in kept]
    if not dropped:
        return Narrowed(parameter=parameter, share=1.0, note="unchanged: no choice has clearly lost")
    return Narrowed(
        parameter=ChoiceParameter(name=parameter.name, choices=kept),
        share=len(kept) / len(parameter.choices),
        note=f"{', '.join(dropped)} dropped: never among the best",
    )


def narrow_range(
    parameter: FloatParameter | IntParameter,
    root: FloatParameter | IntParameter,
    *,
    best: Sequence[Any],
    rest: Sequence[Any],
    rule: ZoomRule,
) -> Narrowed:
    """Narrow a range to the best trials' stored values, the very best first, on its own scale.

    The result stays within ``root``, which the first study drew from, and positions are those in its range.
    """
    if not best or not rest or not _has_influence(best, rest, doubt=rule.doubt):
        return Narrowed(parameter=parameter, share=1.0, note="unchanged: the best values are scattered like all values")
    low, high = _span(root, parameter.distribution.low, parameter.distribution.high)
    new_low, new_high, why = _room(root, best, held=(low, high))
    share, tolerance = (new_high - new_low) / (high - low), _NEGLIGIBLE * (high - low)
    if abs(new_low - low) < tolerance and abs(new_high - high) < tolerance:
        return Narrowed(parameter=parameter, share=1.0, note="unchanged: the best values span its range")
    changed = _between(root, new_low, new_high, best=best)
    grown = new_low < low - tolerance or new_high > high + tolerance
    verb = "moved" if grown and share < 1 else "widened" if grown else "narrowed"
    return Narrowed(parameter=changed, share=share, note=f"{verb} to {changed.low:g} … {changed.high:g}{why}")


def _has_influence(best: Sequence[float], rest: Sequence[float], *, doubt: float) -> bool:
    """Tell whether random trials, as many as the best, lie as close together with a probability of at most ``doubt``.

    Of all N trials' values in order, the k best span s ranks. Of the C(N, k) ways to take k of them,
    C(s, k) + (N − s)·C(s − 1, k − 1) span s or fewer. Ranks alone count, so no scale matters.
    """
    k, n = len(best), len(best) + len(rest)
    span = k + sum(min(best) <= value <= max(best) for value in rest)
    return math.comb(span, k) + (n - span) * math.comb(span - 1, k - 1) <= Fraction(doubt) * math.comb(n, k)


def _room(
    root: FloatParameter | IntParameter, best: Sequence[Any], *, held: tuple[float, float]
) -> tuple[float, float, str]:
    """Return the positions between which to search around the best values, and what is worth saying about them.

    If the best trial lies at an end of the best values, there is room beyond that end; if it lies at an end of the
    range that was searched (``held``), the room is beyond that one.
    """
    low, high = _span(root, min(best), max(best))
    width, edge = high - low, _EDGE * (held[1] - held[0])
    champion = _span(root, best[0], best[0])
    at_low = champion[0] - low <= _EDGE * width or champion[0] - held[0] <= edge
    at_high = high - champion[1] <= _EDGE * width or held[1] - champion[1] <= edge
    if at_low:
        low = (held[0] if champion[0] - held[0] <= edge else low) - _WIDEN * width
    if at_high:
        high = (held[1] if held[1] - champion[1] <= edge else high) + _WIDEN * width
    floored = high - low < MIN_WIDTH
    if floored:
        low = min(max((low + high - MIN_WIDTH) / 2, 0.0), 1.0 - MIN_WIDTH)
        high = low + MIN_WIDTH
    why = ", as narrow as a zoom goes" if floored else ""
    if at_low != at_high:
        upper = at_low if root.scale == "log-complement" else at_high
        why = f"{why}; the best trial lies at the {'high' if upper else 'low'} end"
    return max(low, 0.0), min(high, 1.0), why


def _span(root: FloatParameter | IntParameter, low: Any, high: Any) -> tuple[float, float]:
    """Return the positions of two stored values; a whole number takes all positions for which ``value_at`` gives it."""
    half = 0.5 if isinstance(root, IntParameter) else 0.0
    return position_of(root.distribution, low - half), position_of(root.distribution, high + half)


def _between(
    root: FloatParameter | IntParameter, low: float, high: float, *, best: Sequence[Any]
) -> FloatParameter | IntParameter:
    """Return the parameter between two positions, rounded outward, holding the best values."""
    distribution = root.distribution
    if isinstance(root, IntParameter):
        first = min(value_at(distribution, low + 1e-9), *best)
        last = max(value_at(distribution, high - 1e-9), *best)
        if first == last:  # a range holds two whole numbers at least
            first, last = (first, last + 1) if last < root.high else (first - 1, last)
        return dataclasses.replace(root, low=int(first), high=int(last))
    width = None if distribution.log else (high - low) * (distribution.high - distribution.low)
    first = max(_round(min(value_at(distribution, low), *best), ROUND_FLOOR, width), distribution.low)
    last = min(_round(max(value_at(distribution, high), *best), ROUND_CEILING, width), distribution.high)
    if root.scale == "log-complement":
        first, last = max(complement(last), root.low), min(complement(first), root.high)
    return dataclasses.replace(root, low=first, high=last)


def _round(value: float, rounding: str, width: float | None) -> float:
    """Return the value rounded to three digits or, if a width is given, to a thousandth of that width."""
    scale = abs(value) if width is None else width
    if scale == 0:
        return value
    exponent = math.floor(math.log10(scale)) - _DIGITS + 1
    return float(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(exponent), rounding=rounding))
