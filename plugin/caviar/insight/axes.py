"""Scales for pictures: where a hyperparameter or a metric stands on an axis, and what the axis is labelled with."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, complement
from ..space import SearchSpace

_STEPS = (1.0, 2.0, 5.0)
_MAX_TICKS = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis, drawn linearly in positions and labelled with values.

    Attributes:
        title: What stands on it, and the scale where it is not uniform.
        position: Value → position; values as the user thinks of them.
        ticks: (position, label), ascending.
        low: Smallest position that the axis shows.
        high: Largest position that the axis shows, above ``low``.
        spread: How far around a position its points may be moved so that equal ones do not hide each other.
    """

    title: str
    position: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float
    spread: float = 0.0


def drawn_parameters(space: SearchSpace) -> tuple[Parameter, ...]:
    """Return a parameter for everything that Optuna stores of a space, widths of single layers included."""
    known = {parameter.parameter: parameter for parameter in space.parameters}
    units = known.get("units")
    found: list[Parameter] = []
    for name in space.distributions():
        if name in known:
            found.append(known[name])
        elif units is not None:
            found.append(dataclasses.replace(units, name=name))
    return tuple(found)


def parameter_axis(parameter: Parameter) -> Axis:
    """Return the axis of a hyperparameter, on its own scale.

    Example:
        >>> axis = parameter_axis(FloatParameter(name="momentum", low=0.5, high=0.999, scale="log-complement"))
        >>> [label for _, label in axis.ticks]
        ['0.5', '0.9', '0.95', '0.99', '0.995', '0.999']
    """
    if isinstance(parameter, ChoiceParameter):
        labels = [str(choice) for choice in parameter.choices]
        return Axis(
            title=parameter.name,
            position=lambda value: float(parameter.choices.index(value)) if value in parameter.choices else math.nan,
            ticks=tuple((float(index), label) for index, label in enumerate(labels)),
            low=-0.5,
            high=len(labels) - 0.5,
            spread=0.5,
        )
    position = scale_position(parameter)
    values = _tick_values(parameter)
    title = parameter.name if parameter.scale == "uniform" else f"{parameter.name} ({parameter.scale})"
    return Axis(
        title=title,
        position=position,
        ticks=tuple((position(value), shown(value)) for value in values),
        low=position(parameter.low),
        high=position(parameter.high),
        spread=0.25 if _is_countable(parameter) else 0.0,
    )


def scale_position(parameter: FloatParameter | IntParameter) -> Callable[[float], float]:
    """Return value → position on the parameter's scale: the value, its exponent, or its complement's, negated."""
    if parameter.scale == "log":
        return lambda value: math.log10(value)
    if parameter.scale == "log-complement":
        return lambda value: -math.log10(complement(value))
    return float


def scale_value(parameter: FloatParameter | IntParameter, position: float) -> float:
    """Return the value that stands at a position of the parameter's scale; the inverse of ``scale_position``."""
    if parameter.scale == "log":
        return float(10**position)
    if parameter.scale == "log-complement":
        return 1 - float(10**-position)
    return position


def metric_axis(metric: str, values: Iterable[float]) -> Axis:
    """Return the axis of a metric, on which good values lie as far apart as bad ones.

    An accuracy stands by the exponent of its error, 1 − accuracy, and a loss by its own: between 0.98 and 0.99 lies
    as much work as between 0.8 and 0.9. What is perfect is drawn at half the smallest error there is.

    Args:
        metric: ``val_accuracy`` and the like.
        values: Those that will be drawn; accuracies in [0, 1], losses of at least 0.
    """
    finite = [value for value in values if math.isfinite(value)]
    is_loss = metric.endswith("loss")
    distances = [value if is_loss else complement(min(value, 1.0)) for value in finite]
    positive = [distance for distance in distances if distance > 0]
    floor = min(positive, default=0.01) / (2 if len(positive) < len(distances) else 1)
    sign = 1 if is_loss else -1

    def position(value: float) -> float:
        distance = value if is_loss else complement(min(value, 1.0))
        return sign * math.log10(max(distance, floor))

    ends = sorted(position(value) for value in finite) or [0.0]
    margin = 0.06 * (ends[-1] - ends[0]) or 0.1
    candidates = _log_values(floor, max([1.0, *positive]))
    values_at = candidates if is_loss else sorted(complement(candidate) for candidate in candidates)
    ticks = [(position(value), shown(value)) for value in values_at if value < 1 or is_loss]
    inside = [tick for tick in ticks if ends[0] - margin <= tick[0] <= ends[-1] + margin]
    title = metric if is_loss else f"{metric} (log scale of the error)"
    return Axis(
        title=title,
        position=position,
        ticks=tuple(_thinned(inside)),
        low=ends[0] - margin,
        high=ends[-1] + margin,
    )


def shown(value: Any) -> str:
    """Return a value as a person reads it: four digits of a float, lists and tables with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {shown(part)}" for name, part in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(shown(part) for part in value)
    return str(value)


def _tick_values(parameter: FloatParameter | IntParameter) -> list[float]:
    if parameter.scale == "log":
        inside = _log_values(parameter.low, parameter.high)
        if isinstance(parameter, IntParameter):
            powers = [float(2**power) for power in range(32) if parameter.low <= 2**power <= parameter.high]
            inside = powers if len(powers) > 2 else inside
    elif parameter.scale == "log-complement":
        inside = [complement(value) for value in _log_values(complement(parameter.high), complement(parameter.low))]
    elif _is_countable(parameter):
        return [float(value) for value in range(int(parameter.low), int(parameter.high) + 1)]
    else:
        step = (parameter.high - parameter.low) / 4
        inside = [parameter.low + index * step for index in range(5)]
        if isinstance(parameter, IntParameter):
            inside = sorted({float(round(value)) for value in inside})
    return sorted(inside) or [float(parameter.low), float(parameter.high)]


def _is_countable(parameter: FloatParameter | IntParameter) -> bool:
    is_uniform = isinstance(parameter, IntParameter) and parameter.scale == "uniform"
    return is_uniform and parameter.high - parameter.low < _MAX_TICKS


def _log_values(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times the powers of ten in [low, high], or fewer of them where those would be too many."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    tolerance = 1e-9
    values = [float(f"{step:g}e{exponent}") for exponent in exponents for step in _STEPS]
    inside = [value for value in values if low * (1 - tolerance) <= value <= high * (1 + tolerance)]
    for kept in ("15", "1"):
        if len(inside) > _MAX_TICKS:
            inside = [value for value in inside if f"{value:e}"[0] in kept]
    return inside


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    every = max(1, math.ceil(len(ticks) / (2 * _MAX_TICKS)))
    return list(ticks[::every])
