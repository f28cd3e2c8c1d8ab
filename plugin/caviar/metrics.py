"""The metrics that a study may optimise, and which way."""

import enum
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .errors import SpecError, nearest_name

if TYPE_CHECKING:  # as in parameters.py
    import optuna
    from optuna.study import StudyDirection


class Direction(enum.StrEnum):
    """Which way a metric is optimised."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    @classmethod
    def of(cls, study: "optuna.Study") -> "Direction":
        """Return the direction of a study with one objective."""
        return cls[study.direction.name]

    @property
    def optuna(self) -> "StudyDirection":
        """The same as Optuna's own type has it."""
        from optuna.study import StudyDirection

        return StudyDirection[self.name]

    def cost(self, value: float) -> float:
        """Return what is smaller the better a value is; given a cost, return its value."""
        return value if self is Direction.MINIMIZE else -value

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best of some values, or None if there are none."""
        return min(values, key=self.cost, default=None)


METRICS: Mapping[str, Direction] = {
    "val_accuracy": Direction.MAXIMIZE,
    "val_loss": Direction.MINIMIZE,
    "val_balanced_accuracy": Direction.MAXIMIZE,
    "val_macro_f1": Direction.MAXIMIZE,
    "accuracy": Direction.MAXIMIZE,
    "loss": Direction.MINIMIZE,
}

#: Those that give every class the same say; trainers compute them only where one of them is asked for.
CLASS_METRICS: frozenset[str] = frozenset({"val_balanced_accuracy", "val_macro_f1"})


def direction_of(metric: str) -> Direction:
    """Return the way a metric is optimised, or raise a SpecError if there is no such metric."""
    if metric not in METRICS:
        raise SpecError(f"No metric is called {metric!r}. {nearest_name(metric, METRICS)}")
    return METRICS[metric]
