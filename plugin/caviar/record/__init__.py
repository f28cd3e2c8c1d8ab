"""Records of a study beside its storage: the MLflow mirror and what it says of the environment.

Importing this package loads neither mlflow nor tensorflow.
"""

from .environment import environment_versions
from .mlflow_mirror import MlflowMirror
from .run_content import TrialRecord
from .tracking import prepare_tracking

__all__ = ["MlflowMirror", "TrialRecord", "environment_versions", "prepare_tracking"]
