"""Keeping the network of the best trial: its weights at its best epoch, saved as a stock Keras model."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import optuna
from numpy import generic
from numpy.typing import NDArray
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from ..atomic_write import written_whole
from ..attributes import NETWORK_LOST
from ..errors import CaviarError
from .trial_run import TrialRun

if TYPE_CHECKING:
    from ..data.dataset import Split
    from ..networks import Output
    from ..training import Trainer

_logger = logging.getLogger(__name__)

State = Mapping[str, NDArray[generic]]

_ROWS_AT_A_TIME: Final = 1000

#: Keras cuts probabilities off at this before it takes their logarithm; the loss of logits is cut off nowhere.
_LEAST_PROBABILITY: Final[dict["Output", float]] = {"probabilities": 1e-7, "logits": 1e-38}


class Standing(NamedTuple):
    """What decides which trial is the best: the better value, and of equal ones the lower number, as in Optuna."""

    value: float
    number: int

    def beats(self, other: "Standing | None", *, maximize: bool) -> bool:
        """Tell whether this is the better of two; anything is better than nothing."""
        if other is None:
            return True
        sign = 1 if maximize else -1
        return (sign * self.value, -self.number) > (sign * other.value, -other.number)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the study's best complete trial, or None before its first.

    It is Optuna's ``study.best_trial``, which leaves it to the database which of equally good trials comes first.
    """
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))  # in the order of their numbers
    return max(trials, key=lambda trial: sign * (trial.value or 0.0), default=None)


def best_standing(study: optuna.Study) -> Standing | None:
    """Return where the study's best trial stands, or None before its first complete one."""
    best = best_trial(study)
    return None if best is None or best.value is None else Standing(best.value, best.number)


class _UnfitError(CaviarError):
    """A saved network is not what its trial trained."""


class NetworkFolder:
    """Where a study's best networks stand, a file for every trial that was the best when it ended.

    Args:
        directory: For the files, ``TRIAL.keras``; created with the first one.
        artifacts: optuna-dashboard's artifact directory, where each is offered for download beside its trial.
        validation: The examples that validate the study's trials.
    """

    def __init__(self, directory: Path, artifacts: Path, *, validation: "Split") -> None:
        self._directory = directory
        self._artifacts = artifacts
        self._validation = validation

    def save(self, run: TrialRun, model: Any) -> None:
        """Save a trial's network, once its file has been read back and gives the loss that the trial reported.

        One that cannot be saved is said to be so, here and in the trial's attributes: the trial counts without it.

        Args:
            run: Of the trial, which is running.
            model: A keras.Model as it was at the run's best epoch; the file's gives probabilities.
        """
        path = self._directory / f"{run.trial.number}.keras"
        try:
            with written_whole(path) as beside:
                _save(model, beside, output=run.output, feature_shape=self._validation.features.shape[1:])
                self._check(beside, model, run)
        except Exception as error:  # noqa: BLE001  a network of the user's raises what it likes
            told = str(error) if isinstance(error, _UnfitError) else f"{type(error).__name__}: {error}"
            lines = told.splitlines()  # Keras' last one is the cause
            reason = " … ".join(line[:240] for line in dict.fromkeys([lines[0], lines[-1].strip() or lines[0]]))
            _logger.warning("The network of trial %d could not be saved: %s", run.trial.number, reason)
            run.trial.set_user_attr(NETWORK_LOST, reason)
            return
        assert isinstance(run.trial, optuna.Trial)
        self._offer(run.trial, path)

    def _offer(self, trial: optuna.Trial, path: Path) -> None:
        try:
            self._artifacts.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                store = FileSystemArtifactStore(base_path=str(self._artifacts))
                upload_artifact(study_or_trial=trial, file_path=str(path), artifact_store=store)
        except OSError as error:
            _logger.warning("%s could not be copied for optuna-dashboard: %s", path, error)

    def _check(self, path: Path, model: Any, run: TrialRun) -> None:
        """Raise _UnfitError where a saved network does not give what its trial reported."""
        probabilities = _predict(path, model, self._validation.features)
        if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=0.01):
            raise _UnfitError(
                f"its outputs are no longer probabilities, as they were when it was built. Set objective.output "
                f'(it was taken for "{run.output}").'
            )
        assert run.best_epoch is not None
        least, labels = _LEAST_PROBABILITY[run.output], self._validation.labels
        right = probabilities[np.arange(len(labels)), labels]
        loss, reported = float(-np.log(np.maximum(right, least)).mean()), run.curves["val_loss"][run.best_epoch]
        within_reach = run.output == "probabilities" or bool((right > least).all())
        if loss > reported + _tolerance(reported) or (within_reach and loss < reported - _tolerance(reported)):
            raise _UnfitError(f"its file gives a val_loss of {loss:.4f}, but the trial reported {reported:.4f}.")


class BestEpochKeeper:
    """Holds a copy of a trial's state at its best epoch, once that beats what the study has.

    Args:
        to_beat: Where the study's best trial stood when this one began, or None.
        number: The trial's.
        maximize: Whether more is better.
    """

    def __init__(self, to_beat: Standing | None, *, number: int, maximize: bool) -> None:
        self._to_beat = to_beat
        self._number = number
        self._maximize = maximize
        self.state: State | None = None

    def after_epoch(self, run: TrialRun, trainer: "Trainer", lane: int = 0) -> None:
        """Copy the lane's state if this epoch is the trial's best and beats the study's best."""
        if run.best_epoch == run.epochs - 1 and self.beats(run.best_value):
            self.state = trainer.lane_state(lane)

    def beats(self, value: float | None) -> bool:
        """Tell whether the trial would be the study's best with this value."""
        return value is not None and Standing(value, self._number).beats(self._to_beat, maximize=self._maximize)

    def raise_to(self, standing: Standing) -> None:
        """Take note of another trial that ended."""
        if standing.beats(self._to_beat, maximize=self._maximize):
            self._to_beat = standing


def _tolerance(loss: float) -> float:
    return 0.01 + 0.01 * abs(loss)  # float16 has three digits


def _save(model: Any, path: Path, *, output: "Output", feature_shape: tuple[int, ...]) -> None:
    from ..networks import with_probabilities

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras' saving calls numpy's __array__ as numpy 1 did
        with_probabilities(model, output=output, feature_shape=feature_shape).save(path)


def _predict(path: Path, model: Any, features: NDArray[generic]) -> NDArray[np.float64]:
    """Return what a saved network gives, read with the user's own layers where the network has such."""
    import keras

    from ..training.keras_private import all_layers

    kinds = {type(layer) for layer in all_layers(model)}
    own = {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("keras.")}
    # Not safe_mode: what it guards against are other people's files, and this one has just been written.
    loaded = keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=False)
    inputs = getattr(loaded, "inputs", None)
    dtype = inputs[0].dtype if inputs else keras.config.floatx()
    starts = range(0, len(features), _ROWS_AT_A_TIME)
    batches = (features[start : start + _ROWS_AT_A_TIME].astype(dtype) for start in starts)
    rows = [keras.ops.convert_to_numpy(loaded(batch, training=False)) for batch in batches]
    return np.concatenate(rows).astype(np.float64)
