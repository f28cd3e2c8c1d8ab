"""What plans which of a worker's trials train together; the plan of trials that train alone."""

import abc
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar, final

from ..config import NetworkConfig, TrainingConfig


class LaneConfig(Protocol):
    """What a trial trains, as far as planning looks at it."""

    @property
    def network(self) -> NetworkConfig:
        """Its network."""

    @property
    def training(self) -> TrainingConfig:
        """How it is trained."""


class Candidate(Protocol):
    """A trial, as far as planning looks at it."""

    @property
    def lane(self) -> LaneConfig:
        """What it trains."""

    @property
    def epochs(self) -> int:
        """How many epochs it has done."""


T = TypeVar("T", bound=Candidate)


class Plan(abc.ABC):
    """Decides which trials train together."""

    @property
    @abc.abstractmethod
    def most_in_hand(self) -> int:
        """Trials that a worker has at once, at most."""

    @abc.abstractmethod
    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Return the next fleets of those that wait, and whether survivors should wait for others like them."""

    @abc.abstractmethod
    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:
        """Return which waiting trials should join a fleet that was planned to have so many lanes."""

    @abc.abstractmethod
    def training_s(self, fleet: Sequence[Candidate]) -> float:
        """Return the seconds until all of a fleet are done."""

    @abc.abstractmethod
    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:
        """Return the arithmetic of an epoch's training steps, without padding and with it."""


@final
class SoloPlan(Plan):
    """Each trial trains alone, and a worker has one at a time, so that samplers see every result."""

    @property
    def most_in_hand(self) -> int:
        """One."""
        return 1

    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        """Return each by itself."""
        return [[trial] for trial in waiting], False

    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:  # noqa: ARG002
        """Return none."""
        return []

    def training_s(self, fleet: Sequence[Candidate]) -> float:  # noqa: ARG002
        """Return infinity: it is not known."""
        return math.inf

    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:  # noqa: ARG002
        """Return 0: it is not counted."""
        return 0.0, 0.0
