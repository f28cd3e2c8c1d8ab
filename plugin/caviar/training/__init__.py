"""The compiled epoch, the update rules, and the trainers that run them."""

from .fleet import FleetData, FleetPrograms, FleetTrainer, KeptPrograms, Lane
from .library_seeds import seeded_libraries
from .solo import SoloTrainer
from .tensors import TensorSplits
from .trainer import LaneState, Metrics, Trainer

__all__ = [
    "FleetData",
    "FleetPrograms",
    "FleetTrainer",
    "KeptPrograms",
    "Lane",
    "LaneState",
    "Metrics",
    "SoloTrainer",
    "TensorSplits",
    "Trainer",
    "seeded_libraries",
]
