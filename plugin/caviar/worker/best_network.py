"""Keeping the network of the best trial: its weights at its best epoch, saved as a stock Keras model."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from numpy import generic
from numpy.typing import NDArray
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import ExperimentalWarning

from ..atomic_write import written_whole
from .trial_run import TrialRun

if TYPE_CHECKING:
    from ..training import Trainer

_logger = logging.getLogger(__name__)

State = Mapping[str, NDArray[generic]]


class NetworkFolder:
    """Where a study's best networks stand, a file for every trial that was the best when it ended.

    Args:
        directory: For the files, ``TRIAL.keras``; created with the first one.
        artifacts: optuna-dashboard's artifact directory, where each is offered for download beside its trial.
    """

    def __init__(self, directory: Path, artifacts: Path) -> None:
        self._directory = directory
        self._artifacts = artifacts

    def save(self, trial: optuna.Trial, model: Any) -> None:
        """Save a trial's network; one that cannot be saved is only said to be so, for the trial counts without it.

        Args:
            trial: Running.
            model: A keras.Model that gives logits or probabilities; the file's gives probabilities where it can.
        """
        path = self._directory / f"{trial.number}.keras"
        try:
            self._artifacts.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as beside:
                _save(model, beside)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                store = FileSystemArtifactStore(base_path=str(self._artifacts))
                upload_artifact(study_or_trial=trial, file_path=str(path), artifact_store=store)
        except (OSError, ValueError, TypeError, NotImplementedError) as error:
            _logger.warning("The network of trial %d could not be saved: %s", trial.number, error)


class BestEpochKeeper:
    """Holds a copy of a trial's state at its best epoch, once that beats what the study has.

    Args:
        to_beat: The study's best value when the trial began, or None; may be set anew when another trial is better.
        maximize: Whether more is better.
    """

    def __init__(self, to_beat: float | None, *, maximize: bool) -> None:
        self.to_beat = to_beat
        self._maximize = maximize
        self.state: State | None = None

    def after_epoch(self, run: TrialRun, trainer: "Trainer", lane: int = 0) -> None:
        """Copy the lane's state if this epoch is the trial's best and beats the study's best."""
        if run.best_epoch == run.epochs - 1 and self.beats(run.best_value):
            self.state = trainer.lane_state(lane)

    def beats(self, value: float | None) -> bool:
        """Tell whether a value is better than the study's best."""
        if value is None or self.to_beat is None:
            return value is not None
        return value > self.to_beat if self._maximize else value < self.to_beat


def _save(model: Any, path: Path) -> None:
    from ..networks import with_probabilities

    try:
        model = with_probabilities(model)
    except ValueError:  # a subclassed network of the user's is saved as it is
        _logger.debug("%s is saved with the outputs it has.", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras' saving calls numpy's __array__ as numpy 1 did
        model.save(path)
