"""Training the winner on all that may be learned from, for as many epochs as its race says."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.dataset import Dataset, Split
from ..data.loading import Data
from ..data.preprocessing import Preprocessing
from ..search.seeds import trial_seed
from ..space import make_configs
from ..spec import StudySpec
from ..worker.objective import KerasObjective, objective_of

if TYPE_CHECKING:
    from ..training import Trainer

_SHOWN_ROWS = 64  # a trainer validates after each epoch; here nothing is chosen by it


class Refit(NamedTuple):
    """The network, trained.

    Attributes:
        model: A keras.Model that gives probabilities.
        train: What it was trained on.
        preprocessing: What was fitted on that, for a table.
        hyperparameters: What it was built from.
        seed: Of its training.
    """

    model: Any
    train: Split
    preprocessing: Preprocessing | None
    hyperparameters: dict[str, Any]
    seed: int


def refit(data: Data, spec: StudySpec, params: Mapping[str, Any], *, epochs: int) -> Refit:
    """Train a configuration on training and validation data together.

    Args:
        data: The data set.
        spec: The study file.
        params: As Optuna stores them.
        epochs: Passes; a decay that ends with the study's epochs is cut short, as it was in the race.
    """
    from ..networks import with_probabilities

    train, preprocessing = data.whole()
    shown = Split(features=train.features[:_SHOWN_ROWS], labels=train.labels[:_SHOWN_ROWS])
    dataset = Dataset(
        name=data.name,
        class_names=data.class_names,
        train=train,
        validation=shown,
        fingerprint=data.fingerprint,
        preprocessing=preprocessing,
    )
    hyperparameters = spec.space.hyperparameters(params)
    seed = trial_seed(spec.seed, 0, "refit")
    objective = objective_of(spec, dataset)
    with contextlib.closing(_trainer(objective, spec, hyperparameters, seed=seed)) as trainer:
        for _ in range(epochs):
            (metrics,) = trainer.run_epoch()
            if not all(np.isfinite(value) for value in metrics.values()):
                break
        model = with_probabilities(trainer.lane_model(0), output=trainer.output, feature_shape=train.features.shape[1:])
    return Refit(model, train, preprocessing, hyperparameters, seed)


def _trainer(objective: KerasObjective, spec: StudySpec, hyperparameters: Mapping[str, Any], *, seed: int) -> "Trainer":
    if not spec.trains_in_fleets:
        return objective.make_trainer(hyperparameters, seed=seed)
    from ..training import FleetTrainer, Lane

    network, training = make_configs(hyperparameters, epochs=spec.objective.epochs)
    return FleetTrainer([Lane(network=network, training=training, seed=seed)], objective.programs)
