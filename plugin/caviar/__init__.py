"""Find the best Keras network for a classification data set with Optuna, and never lose a trial.

Importing this loads neither TensorFlow nor MLflow; they come when the first trial needs them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .commands.control import LiveTrial as LiveTrial
    from .commands.predict import load_champion as load_champion
    from .data.dataset import Dataset as Dataset
    from .data.loading import load_dataset as load_dataset
    from .data.loading import make_dataset as make_dataset
    from .estimator import CaviarClassifier as CaviarClassifier
    from .search.zoom_sampler import ZoomSampler as ZoomSampler
    from .space import SearchSpace as SearchSpace
    from .spec import StudySpec as StudySpec
    from .spec import read_spec as read_spec
    from .worker.objective import KerasObjective as KerasObjective

__version__ = "0.1.0"

_PUBLIC = {
    "CaviarClassifier": "estimator",
    "Dataset": "data.dataset",
    "KerasObjective": "worker.objective",
    "LiveTrial": "commands.control",
    "SearchSpace": "space",
    "StudySpec": "spec",
    "ZoomSampler": "search.zoom_sampler",
    "load_dataset": "data.loading",
    "load_champion": "commands.predict",
    "make_dataset": "data.loading",
    "read_spec": "spec",
}

__all__ = [
    "CaviarClassifier",
    "Dataset",
    "KerasObjective",
    "LiveTrial",
    "SearchSpace",
    "StudySpec",
    "ZoomSampler",
    "__version__",
    "load_champion",
    "load_dataset",
    "make_dataset",
    "read_spec",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'caviar' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
