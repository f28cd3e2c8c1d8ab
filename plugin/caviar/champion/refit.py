"""Training a configuration without choosing anything by what it reaches: the winner's last training, and ensembles."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ..data.dataset import Dataset, Split
from ..data.loading import Data
from ..data.preprocessing import Preprocessing
from ..search.seeds import trial_seed
from ..space import make_configs
from ..spec import StudySpec
from ..worker.objective import objective_of

if TYPE_CHECKING:
    from ..training import Trainer

_SHOWN_ROWS: Final = 64  # a trainer validates after each epoch; here nothing is chosen by it


class Refit(NamedTuple):
    """The network, trained.

    Attributes:
        model: A keras.Model that gives probabilities; of an ensemble, their mean.
        train: What it was trained on.
        preprocessing: What was fitted on that, for a table.
        hyperparameters: What it was built from.
        seed: Of its training; of an ensemble, of the first network's.
    """

    model: Any
    train: Split
    preprocessing: Preprocessing | None
    hyperparameters: dict[str, Any]
    seed: int


def refit(data: Data, spec: StudySpec, params: Mapping[str, Any], *, epochs: int, n_networks: int = 1) -> Refit:
    """Train a configuration on training and validation data together.

    Args:
        data: The data set.
        spec: The study file.
        params: As Optuna stores them.
        epochs: Passes; a decay that ends with the study's epochs is cut short, as it was in the race.
        n_networks: How many are trained, each with its own seed, to be averaged.
    """
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
    seeds = [trial_seed(spec.seed, number, "refit") for number in range(n_networks)]
    models = train_networks(dataset, spec, hyperparameters, epochs=epochs, seeds=seeds)
    return Refit(
        averaged(models, feature_shape=train.features.shape[1:]), train, preprocessing, hyperparameters, seeds[0]
    )


def train_networks(
    dataset: Dataset, spec: StudySpec, hyperparameters: Mapping[str, Any], *, epochs: int, seeds: Sequence[int]
) -> list[Any]:
    """Train a configuration once with each seed, in one fleet where the study trains in fleets.

    Returns:
        Keras models that give probabilities.
    """
    models = []
    objective = objective_of(spec, dataset)
    if spec.trains_in_fleets:
        from ..training import FleetTrainer, Lane

        network, training = make_configs(hyperparameters, epochs=spec.objective.epochs)
        lanes = [Lane(network=network, training=training, seed=seed) for seed in seeds]
        with contextlib.closing(FleetTrainer(lanes, objective.programs)) as fleet:
            models = _trained(fleet, dataset, epochs=epochs, n=len(seeds))
    else:
        for seed in seeds:
            with contextlib.closing(objective.make_trainer(hyperparameters, seed=seed)) as trainer:
                models += _trained(trainer, dataset, epochs=epochs, n=1)
    return models


def averaged(models: Sequence[Any], *, feature_shape: tuple[int, ...]) -> Any:
    """Return one network of stock layers that gives the mean of several networks' probabilities."""
    import keras

    if len(models) == 1:
        return models[0]
    dtype = models[0].inputs[0].dtype if getattr(models[0], "inputs", None) else None
    inputs, members = keras.Input(feature_shape, dtype=dtype), []
    for number, model in enumerate(models):
        own = keras.Input(feature_shape, dtype=dtype)
        members.append(keras.Model(own, model(own), name=f"member_{number}"))  # layers need names of their own
    return keras.Model(inputs, keras.layers.Average(name="mean")([member(inputs) for member in members]))


def _trained(trainer: "Trainer", dataset: Dataset, *, epochs: int, n: int) -> list[Any]:
    from ..networks import with_probabilities

    for _ in range(epochs):
        metrics = trainer.run_epoch()
        if not all(np.isfinite(value) for lane in metrics for value in lane.values()):
            break
    shape = dataset.train.features.shape[1:]
    return [with_probabilities(trainer.lane_model(i), output=trainer.output, feature_shape=shape) for i in range(n)]
