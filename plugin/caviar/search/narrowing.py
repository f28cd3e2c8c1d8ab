"""How one parameter's range or choices shrink, or grow again, around the best trials' values."""

import dataclasses
import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from ..errors import SpecError
from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, complement
from .sequences import position_of, value_at

#: A range that would change by less than this share of itself stays as it is.
_NEGLIGIBLE = 0.05
_DIGITS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomRule:
    """How a space is narrowed.

    Attributes:
        keep: Share of the trials, in (0, 1), that counts as the best, and that the narrower space holds.
        max_best: Trials that count as the best at most, at least 2, or None for all that ``keep`` says: of hundreds of
            trials the best fifth spans nearly every range.
        doubt: In [0, 1]: how probable, for a parameter without influence, a scatter of the best as uneven as the one
            seen may be before the parameter is left wide. 0 narrows nothing, 1 everything.
        edge: Where the best trial lies within this share of an end, of the range searched or of what the best trials
            hold, there is room beyond that end.
        widen: How much, as a share of what the best hold.
        min_width: The floor: no range is narrowed below this share of the first study's, on its own scale.
        min_trials: Trials with a result below which nothing can be said, at least 2.

    Raises:
        SpecError: If a number is outside its range.
    """

    keep: float = 0.2
    max_best: int | None = None
    doubt: float = 0.2
    edge: float = 0.1
    widen: float = 0.25
    min_width: float = 0.02
    min_trials: int = 5

    def __post_init__(self) -> None:
        for name in ("keep", "min_width"):
            if not 0 < getattr(self, name) < 1:
                raise SpecError(f"{name} must lie between 0 and 1, but got {getattr(self, name)}.")
        for name in ("doubt", "edge", "widen"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} must lie in [0, 1], but got {getattr(self, name)}.")
        if self.max_best is not None and self.max_best < 2:
            raise SpecError(f"max_best must be at least 2, but got {self.max_best}.")
        if self.min_trials < 2:
            raise SpecError(f"min_trials must be at least 2, but got {self.min_trials}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrowed:
    """What became of one parameter.

    Attributes:
        parameter: With its new range or choices, or the very one that it was.
        share: Of the old range or choices that is left, on the parameter's own scale; above 1 where it grew.
        note: What happened and why, in words.
    """

    parameter: Parameter
    share: float
    note: str


def narrow_choices(parameter: ChoiceParameter, best: Sequence[Any], rest: Sequence[Any], *, doubt: float) -> Narrowed:
    """Drop the choices that none of the best trials has, unless they were tried too seldom to have lost.

    Args:
        parameter: What is drawn.
        best: Its values in the best trials; where none has it, all choices stay.
        rest: Its values in the other trials.
        doubt: A choice stays if, without influence, it would be missing among the best with a higher probability.
    """
    from scipy.stats import hypergeom

    n_tried = len(best) + len(rest)
    kept = tuple(
        choice
        for choice in parameter.choices
        if not best or choice in best or hypergeom.pmf(0, n_tried, rest.count(choice), len(best)) > doubt
    )
    dropped = [str(choice) for choice in parameter.choices if choice not in kept]
    if not dropped:
        return Narrowed(parameter=parameter, share=1.0, note="left as it is: no choice has clearly lost")
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
    """Narrow a range to the best trials' values, on its own scale.

    Args:
        parameter: What these trials drew.
        root: What the first study drew; the result stays within it, and positions are those in its range.
        best: Stored values in the best trials, the best trial's first.
        rest: Stored values in the other trials.
        rule: How to narrow.
    """
    if not best or not rest or not _has_influence(best, rest, doubt=rule.doubt):
        return Narrowed(parameter=parameter, share=1.0, note="left wide: the best values are scattered like all")
    low, high = _span(root, parameter.distribution.low, parameter.distribution.high)
    new_low, new_high, why = _room(root, best, rule, held=(low, high))
    share, tolerance = (new_high - new_low) / (high - low), _NEGLIGIBLE * (high - low)
    if abs(new_low - low) < tolerance and abs(new_high - high) < tolerance:
        return Narrowed(parameter=parameter, share=1.0, note="left as it is: the best values span its range")
    changed = _between(root, new_low, new_high, best=best)
    grown = new_low < low - tolerance or new_high > high + tolerance
    verb = "moved" if grown and share < 1 else "widened" if grown else "narrowed"
    return Narrowed(parameter=changed, share=share, note=f"{verb} to {changed.low:g} … {changed.high:g}{why}")


def _has_influence(best: Sequence[float], rest: Sequence[float], *, doubt: float) -> bool:
    """Tell whether so narrow a range around as many trials, taken at random, is at most as probable as ``doubt``.

    Of all N trials' values in order, the k best span s ranks. Of the C(N, k) ways to take k of them,
    C(s, k) + (N − s)·C(s − 1, k − 1) span s or fewer. Ranks alone count, so no scale matters.
    """
    k, n = len(best), len(best) + len(rest)
    span = k + sum(min(best) <= value <= max(best) for value in rest)
    return math.comb(span, k) + (n - span) * math.comb(span - 1, k - 1) <= doubt * math.comb(n, k)


def _room(
    root: FloatParameter | IntParameter, best: Sequence[Any], rule: ZoomRule, *, held: tuple[float, float]
) -> tuple[float, float, str]:
    """Return the positions between which to search around the best values, and what is worth saying of them.

    Where the best trial lies at an end of what the best hold, there is room beyond that end; where it lies at an end of
    the range that was searched (``held``), the room is beyond that one.
    """
    low, high = _span(root, min(best), max(best))
    width, edge = high - low, rule.edge * (held[1] - held[0])
    champion = _span(root, best[0], best[0])
    at_low = champion[0] - low <= rule.edge * width or champion[0] - held[0] <= edge
    at_high = high - champion[1] <= rule.edge * width or held[1] - champion[1] <= edge
    if at_low:
        low = (held[0] if champion[0] - held[0] <= edge else low) - rule.widen * width
    if at_high:
        high = (held[1] if held[1] - champion[1] <= edge else high) + rule.widen * width
    floored = high - low < rule.min_width
    if floored:
        low = min(max((low + high - rule.min_width) / 2, 0.0), 1.0 - rule.min_width)
        high = low + rule.min_width
    why = ", the narrowest that a zoom goes" if floored else ""
    if at_low != at_high:
        upper = at_low if root.scale == "log-complement" else at_high
        why = f"{why}; the best trial lies at the {'high' if upper else 'low'} end"
    return max(low, 0.0), min(high, 1.0), why


def _span(root: FloatParameter | IntParameter, low: Any, high: Any) -> tuple[float, float]:
    """Return the positions of two stored values; a whole number takes all that ``value_at`` gives it for."""
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
    """Return the value with three digits of itself or, where a width is given, to a thousandth of that width."""
    scale = abs(value) if width is None else width
    if scale == 0:
        return value
    exponent = math.floor(math.log10(scale)) - _DIGITS + 1
    return float(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(exponent), rounding=rounding))
