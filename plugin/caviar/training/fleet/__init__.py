"""The fleet: several networks stacked into one compiled program."""

from .data import FleetData
from .kept import KeptPrograms
from .lanes import Lane
from .program import FleetPrograms
from .trainer import FleetTrainer

__all__ = ["FleetData", "FleetPrograms", "FleetTrainer", "KeptPrograms", "Lane"]
