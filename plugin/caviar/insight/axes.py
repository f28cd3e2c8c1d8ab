"""Axes for the pictures: where values of a hyperparameter or a metric lie, and how the axis is labelled.

Plotly has no log-complement scale, and parallel coordinates have none but a linear one. So every axis is drawn
linearly, in positions that are computed here.
"""

import dataclasses
import html
import math
from collections.abc import Callable, Iterable
from typing import Any

from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, complement
from .words import shown

_MAX_TICKS = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis, whose ``position`` says where a value lies; it shows positions from ``low`` to ``high``.

    ``ticks`` are (position, label), ascending. Points may be moved by half the ``spread`` around a position, so that
    equal ones do not hide each other.
    """

    title: str
    position: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float
    spread: float = 0.0

    def positions(self, values: Iterable[Any]) -> list[float]:
        """Return where values lie."""
        return [self.position(value) for value in values]

    def layout(self) -> dict[str, Any]:
        """Return the axis for plotly, with a little room at both ends."""
        margin = self.spread / 2 + 0.03 * (self.high - self.low)
        return {
            "title_text": html.escape(self.title),
            "tickvals": [position for position, _ in self.ticks],
            # A long label, ``before_activation`` say, is broken at its underscores.
            "ticktext": [html.escape(t).replace("_", "_<br>" if len(t) > 10 else "_") for _, t in self.ticks],
            "range": [self.low - margin, self.high + margin],
        }


def parameter_axis(parameter: Parameter) -> Axis:
    """Return the axis of a hyperparameter, on its own scale."""
    if isinstance(parameter, ChoiceParameter):
        choices = parameter.choices
        return Axis(
            title=parameter.name,
            position=lambda value: float(choices.index(value)) if value in choices else math.nan,
            ticks=tuple((float(index), str(choice)) for index, choice in enumerate(choices)),
            low=-0.5,
            high=len(choices) - 0.5,
            spread=0.5,
        )
    position = scale_position(parameter)
    return Axis(
        title=parameter.name if parameter.scale == "uniform" else f"{parameter.name} ({parameter.scale})",
        position=position,
        ticks=tuple((position(value), shown(value)) for value in _tick_values(parameter)),
        low=position(parameter.low),
        high=position(parameter.high),
        spread=0.25 if _is_countable(parameter) else 0.0,
    )


def scale_position(parameter: FloatParameter | IntParameter) -> Callable[[float], float]:
    """Return the function from a value to its position: log10 of it, minus log10 of 1 − it, or itself."""
    if parameter.scale == "log":
        return math.log10
    if parameter.scale == "log-complement":
        return lambda value: -math.log10(complement(value))
    return float


def scale_value(parameter: FloatParameter | IntParameter, position: float) -> float:
    """Return the value at a position; the inverse of ``scale_position``."""
    if parameter.scale == "log":
        return float(10**position)
    if parameter.scale == "log-complement":
        return 1 - float(10**-position)
    return position


def metric_axis(metric: str, values: Iterable[float]) -> Axis:
    """Return the axis of a metric, on which good values lie as far apart as bad ones.

    A loss lies at its exponent, and an accuracy at that of its error, 1 − accuracy: from 0.98 to 0.99 is as far as
    from 0.8 to 0.9. A perfect value has no exponent and lies at half the smallest error.
    """
    is_loss = metric.endswith("loss")

    def error(value: float) -> float:
        return value if is_loss else complement(min(value, 1.0))

    finite = [value for value in values if math.isfinite(value)]
    errors = [error(value) for value in finite]
    floor = min((one for one in errors if one > 0), default=0.01) / (2 if 0 in errors else 1)

    def position(value: float) -> float:
        exponent = math.log10(max(error(value), floor))
        return exponent if is_loss else -exponent

    ends = [position(value) for value in finite] or [0.0]
    margin = 0.06 * (max(ends) - min(ends)) or 0.1
    low, high = min(ends) - margin, max(ends) + margin
    # Both signs of a position are an exponent; an error of more than 1 is no accuracy.
    exponents = (low, high) if is_loss else (-high, min(-low, 0.0))
    marked = [error(one) for one in _log_values(10 ** exponents[0], 10 ** exponents[1])]
    if len(marked) < 3 and min(finite, default=0) < max(finite, default=0):  # all too close together for 1, 2 and 5
        marked = _even_values(min(finite), max(finite))
    return Axis(
        title=metric if is_loss else f"{metric} (log scale of the error)",
        position=position,
        ticks=tuple(sorted((position(value), shown(value)) for value in marked)),
        low=low,
        high=high,
    )


def _tick_values(parameter: FloatParameter | IntParameter) -> list[float]:
    low, high = parameter.low, parameter.high
    if parameter.scale == "log":
        powers = [float(2**power) for power in range(32) if low <= 2**power <= high]
        found = powers if isinstance(parameter, IntParameter) and len(powers) > 2 else _log_values(low, high)
    elif parameter.scale == "log-complement":
        found = sorted(complement(value) for value in _log_values(complement(high), complement(low)))
    else:
        n_steps = int(high - low) if _is_countable(parameter) else 4
        found = [low + step * (high - low) / n_steps for step in range(n_steps + 1)]
        if isinstance(parameter, IntParameter):
            found = sorted({float(round(value)) for value in found})
    return found or [float(low), float(high)]


def _is_countable(parameter: FloatParameter | IntParameter) -> bool:
    is_uniform = isinstance(parameter, IntParameter) and parameter.scale == "uniform"
    return is_uniform and parameter.high - parameter.low < _MAX_TICKS


def _log_values(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten in [low, high]; only 1 and 5 times, or once, if those are too many."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 5), (1,)):
        values = (float(f"{step}e{exponent}") for exponent in exponents for step in steps)
        found = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= _MAX_TICKS:
            break
    return found


def _even_values(low: float, high: float) -> list[float]:
    """Return the multiples of a round step in [low, high], at most five."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
