"""Values, ranges, times and lists as a person reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..parameters import ChoiceParameter, Parameter


def shown(value: Any) -> str:
    """Return a value with four digits of a float, and commas in lists and tables."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {shown(part)}" for name, part in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(shown(part) for part in value)
    return str(value)


def range_shown(parameter: Parameter) -> str:
    """Return what a parameter is drawn from: its choices, or its range."""
    if isinstance(parameter, ChoiceParameter):
        return shown(parameter.choices)
    return f"{shown(parameter.low)} to {shown(parameter.high)}"


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``0.4 s``, ``48 s``, ``12 min``, ``3.1 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str] = str.ljust) -> list[str]:
    """Return rows of cells as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(justify, row, widths)) for row in rows]


def listed(words: Sequence[str]) -> str:
    """Return ``a, b and c``; the empty string for no words."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
