"""The compiled epoch, the update rules, and the trainers that run them."""

from .fleet.data import FleetData as FleetData
from .fleet.kept import KeptPrograms as KeptPrograms
from .fleet.lanes import Lane as Lane
from .fleet.program import FleetPrograms as FleetPrograms
from .fleet.trainer import FleetTrainer as FleetTrainer
from .randomness import seeded_libraries as seeded_libraries
from .solo import SoloTrainer as SoloTrainer
from .tensors import TensorSplits as TensorSplits
from .trainer import LaneState as LaneState
from .trainer import Metrics as Metrics
from .trainer import Trainer as Trainer
