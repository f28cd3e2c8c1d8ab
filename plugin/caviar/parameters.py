"""Parameters: what is drawn of one hyperparameter, from what range, on which scale, and how much it matters.

A hyperparameter is named as the user thinks of it (``momentum``). A parameter is what Optuna samples and stores: the
same name and value, except on a log-complement scale, where ``one_minus_momentum`` is stored on a log scale.
"""

import abc
import dataclasses
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import SpaceError

# Importing Optuna takes a seventh of a second, and a study file is read before the fork server starts.
if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

Scale = Literal["uniform", "log", "log-complement"]
Choice: TypeAlias = str | int | float | bool

MAX_CHOICES = 1_000  # with more choices no sampler learns anything about one of them, and drawing takes ever longer
MAX_WHOLE = 2**53  # databases and samplers keep whole numbers as floats, which can tell no larger ones apart

#: The course's importance tiers ("Tuning process"); tier 4 holds what the course does not rank.
TIERS: Mapping[str, int] = {
    "learning_rate": 1,
    "momentum": 2,
    "batch_size": 2,
    "units": 2,
    "depth": 3,
    "decay": 3,
    "decay_rate": 3,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ranked(abc.ABC):
    name: str

    @property
    def tier(self) -> int:
        """The course's importance tier, 1 to 3, or 4 if it ranks none."""
        return TIERS.get(re.sub(r"units_\d+", "units", self.name), 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloatParameter(_Ranked):
    """A real hyperparameter, drawn from [low, high]; raises SpaceError if the range is empty or off the scale.

    Source:
        The course's "Using an appropriate scale to pick hyperparameters".
    """

    low: float  # above 0 on the log scale
    high: float  # below 1 on the log-complement scale
    scale: Scale = "uniform"  # with r uniform, log gives 10^r and log-complement 1 − 10^r

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, self.scale)
        if self.scale == "log-complement" and not (self.low >= 0 and self.high < 1):
            raise SpaceError(
                f"{self.name} is log-complement (1 − 10^r), so its range must lie in [0, 1), "
                f"but got low = {self.low}, high = {self.high}. "
                "Lower high, to 0.999 for instance, or use another scale."
            )

    @property
    def parameter(self) -> str:
        """The name under which Optuna stores it."""
        return f"one_minus_{self.name}" if self.scale == "log-complement" else self.name

    @property
    def distribution(self) -> "FloatDistribution":
        """What Optuna samples from."""
        from optuna.distributions import FloatDistribution

        if self.scale == "log-complement":
            return FloatDistribution(complement(self.high), complement(self.low), log=True)
        return FloatDistribution(self.low, self.high, log=self.scale == "log")

    def value(self, stored: Any) -> float:
        """Return the hyperparameter that a stored parameter stands for."""
        return complement(stored) if self.scale == "log-complement" else float(stored)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntParameter(_Ranked):
    """A whole hyperparameter, drawn from {low, …, high}; raises SpaceError if the range is empty or off the scale."""

    low: int  # at least 1 on the log scale
    high: int
    scale: Literal["uniform", "log"] = "uniform"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, self.scale)

    @property
    def parameter(self) -> str:
        """The name under which Optuna stores it: the hyperparameter's."""
        return self.name

    @property
    def distribution(self) -> "IntDistribution":
        """What Optuna samples from."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.scale == "log")

    def value(self, stored: Any) -> int:
        """Return the hyperparameter that a stored parameter stands for."""
        return int(stored)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceParameter(_Ranked):
    """A hyperparameter drawn from a list, in no order; raises SpaceError if the list is empty or repeats a value."""

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if len(self.choices) > MAX_CHOICES:
            raise SpaceError(
                f"{self.name} has {len(self.choices)} choices, but at most {MAX_CHOICES} can be searched. "
                "Give a number a range, with low and high, or name fewer choices."
            )
        if not self.choices:
            raise SpaceError(f"{self.name} needs at least one choice, but got an empty list.")
        repeated = [choice for index, choice in enumerate(self.choices) if choice in self.choices[:index]]
        if repeated:
            raise SpaceError(f"{self.name} names the choice {repeated[0]!r} twice. Name each choice once.")

    @property
    def parameter(self) -> str:
        """The name under which Optuna stores it: the hyperparameter's."""
        return self.name

    @property
    def distribution(self) -> "CategoricalDistribution":
        """What Optuna samples from."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def value(self, stored: Any) -> Any:
        """Return the hyperparameter that a stored parameter stands for."""
        return stored


Parameter: TypeAlias = FloatParameter | IntParameter | ChoiceParameter


def complement(value: float) -> float:
    """Return 1 − value, exact in decimals: 0.999 gives 0.001, not 0.0010000000000000009."""
    return float(1 - Decimal(repr(float(value))))


def _check_range(name: str, low: float, high: float, scale: str) -> None:
    for end in (low, high):
        if isinstance(end, int) and abs(end) > MAX_WHOLE:
            raise SpaceError(
                f"{name} must lie between -2^53 and 2^53, but an end of its range has {len(str(end))} digits."
            )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(
            f"{name} needs low below high, both finite, but got low = {low}, high = {high}. "
            f"Swap them, or fix the value with `{name} = {low}`."
        )
    if not math.isfinite(high - low):
        raise SpaceError(f"{name} has a range too wide for a float: low = {low}, high = {high}. Narrow it.")

    if scale == "log" and low <= 0:
        raise SpaceError(
            f"{name} is on a log scale, so low must be above 0, but got low = {low}. "
            'Raise low, or set scale = "uniform".'
        )
