"""Keeps the best trial's network: its weights at its best epoch, saved as a stock Keras model."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import optuna
from numpy import generic
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from ..attributes import NETWORK_LOST
from ..errors import CaviarError
from ..metrics import Direction
from ..storage.places import Place, artifact_store, local_copy, written_at
from ..storage.remote import StoreError
from .trial_run import Standing, TrialRun, standing

if TYPE_CHECKING:
    from ..data.dataset import Split
    from ..networks import Output

_logger = logging.getLogger(__name__)

_ROWS_AT_A_TIME: Final = 1000

#: Keras raises smaller probabilities to this before it takes their logarithm; it does not change a loss of logits.
_LEAST_PROBABILITY: Final[dict["Output", float]] = {"probabilities": 1e-7, "logits": 1e-38}


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the study's best complete trial, or None before its first; of equal ones, the lowest number.

    Optuna's ``study.best_trial`` leaves it to the database which of equally good trials comes first.
    """
    direction = Direction.of(study)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))  # in the order of their numbers
    return min(trials, key=lambda trial: direction.cost(trial.value or 0.0), default=None)


def best_standing(study: optuna.Study, metric: str) -> Standing | None:
    """Return the standing of the study's best trial, or None before its first complete one."""
    best = best_trial(study)
    return None if best is None or best.value is None else standing(best.value, best.number, metric=metric)


class _UnfitError(CaviarError):
    """The saved network is not the one that its trial trained."""


class NetworkFolder:
    """A study's best networks: a file for every trial that was the best when it ended.

    Args:
        directory: Holds the files, ``TRIAL.keras``; created with the first one.
        artifacts: optuna-dashboard's artifact directory, where each trial offers its file for download.
        validation: The examples that validate the study's trials.
    """

    def __init__(self, directory: Place, artifacts: Place, *, validation: "Split") -> None:
        self._directory = directory
        self._artifacts = artifacts
        self._validation = validation

    def save(self, run: TrialRun, model: Any) -> None:
        """Save a trial's network, if the file, read back, gives the loss that the trial reported.

        If it cannot be saved, a warning and the trial's attributes say why, and the trial counts without it. ``model``
        is a keras.Model as it was at the run's best epoch; the one in the file gives probabilities.
        """
        from ..networks import quiet_saving, with_probabilities

        path = self._directory / f"{run.trial.number}.keras"
        try:
            with written_at(path) as beside:
                shape = self._validation.features.shape[1:]
                with quiet_saving():
                    with_probabilities(model, output=run.output, feature_shape=shape).save(beside)
                self._check(beside, model, run)
        except Exception as error:  # noqa: BLE001  a network of the user's raises what it likes
            message = str(error) if isinstance(error, _UnfitError) else f"{type(error).__name__}: {error}"
            if isinstance(error, StoreError):
                message = f"{error.strerror}: {path}"
            lines = message.splitlines()  # Keras' last one is the cause
            reason = " … ".join(line[:240] for line in dict.fromkeys([lines[0], lines[-1].strip() or lines[0]]))
            _logger.warning("The network of trial %d could not be saved: %s", run.trial.number, reason)
            run.trial.set_user_attr(NETWORK_LOST, reason)
            return
        assert isinstance(run.trial, optuna.Trial)
        self._offer(run.trial, path)

    def _offer(self, trial: optuna.Trial, path: Place) -> None:
        from optuna.artifacts import upload_artifact  # boto3 with it, where that is installed

        try:
            with warnings.catch_warnings(), local_copy(path) as file:
                warnings.simplefilter("ignore", ExperimentalWarning)
                store = artifact_store(self._artifacts)
                upload_artifact(study_or_trial=trial, file_path=str(file), artifact_store=store)
        except OSError as error:
            _logger.warning("%s could not be copied for optuna-dashboard: %s", path, error)

    def _check(self, path: Path, model: Any, run: TrialRun) -> None:
        """Raise _UnfitError if a saved network does not give the loss that its trial reported."""
        probabilities = _predict(path, model, self._validation.features)
        if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=0.01):
            raise _UnfitError(
                f"its outputs are no longer probabilities, as they were when it was built. Set objective.output "
                f'(caviar took it for "{run.output}").'
            )
        assert run.best_epoch is not None
        least, labels = _LEAST_PROBABILITY[run.output], self._validation.labels
        right = probabilities[np.arange(len(labels)), labels]
        loss, reported = float(-np.log(np.maximum(right, least)).mean()), run.curves["val_loss"][run.best_epoch]
        tolerance = 0.01 + 0.01 * abs(reported)  # float16 has three digits
        within_reach = run.output == "probabilities" or bool((right > least).all())
        if loss > reported + tolerance or (within_reach and loss < reported - tolerance):
            raise _UnfitError(f"its file gives a val_loss of {loss:.4f}, but the trial reported {reported:.4f}.")


def _predict(path: Path, model: Any, features: NDArray[generic]) -> NDArray[np.float64]:
    """Return the outputs of a saved network, which is read with the user's own layers if it has any."""
    import keras

    from ..training.keras_private import all_layers

    kinds = {type(layer) for layer in all_layers(model)}
    own = {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("keras.")}
    # safe_mode guards against other people's files, but this one has just been written here.
    loaded = keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=False)
    inputs = getattr(loaded, "inputs", None)
    dtype = inputs[0].dtype if inputs else keras.config.floatx()
    starts = range(0, len(features), _ROWS_AT_A_TIME)
    batches = (features[start : start + _ROWS_AT_A_TIME].astype(dtype) for start in starts)
    rows = [keras.ops.convert_to_numpy(loaded(batch, training=False)) for batch in batches]
    return np.concatenate(rows).astype(np.float64)
