"""The compiled epoch, the update rules, and the trainers that run them."""

from .solo import SoloTrainer
from .tensors import TensorSplits
from .trainer import Hyperparameter, LaneState, Metrics, Trainer

__all__ = ["Hyperparameter", "LaneState", "Metrics", "SoloTrainer", "TensorSplits", "Trainer"]
