"""The fixed list of configurations: what our random sampler draws for the trials of one seed."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from caviar.data.dataset import Dataset
from caviar.search.samplers import make_sampler_factory
from caviar.search.seeds import trial_seed
from caviar.space import SearchSpace, make_configs
from caviar.spec import SearchSpec
from peers.job import Configuration, Data


def draw_configurations(space: SearchSpace, *, n_trials: int, seed: int) -> tuple[Configuration, ...]:
    """Return the configurations of trials 0 to n_trials − 1 of a study with the random sampler and this seed."""
    make_sampler = make_sampler_factory(SearchSpec(sampler="random", trials=n_trials), space, seed=seed)
    study, configurations = optuna.create_study(), []
    for number in range(n_trials):
        study.sampler = make_sampler(number, study)
        trial = study.ask()
        hyperparameters = space.suggest(trial)
        configurations.append(
            Configuration(
                number=number,
                seed=trial_seed(seed, number, "training"),
                params=dict(trial.params),
                hyperparameters=hyperparameters,
            )
        )
    return tuple(configurations)


def fits_sklearn(configuration: Configuration) -> bool:
    """Say whether scikit-learn's MLPClassifier can train it: it knows no batch normalisation."""
    network, _ = make_configs(configuration.hyperparameters, epochs=1)
    return network.batch_norm == "none"


def flop_of_epoch(hyperparameters: Mapping[str, Any], dataset: Dataset) -> float:
    """Return the floating-point operations of the matrix products of one epoch of training.

    6·Σ wᵢ·wᵢ₊₁ an example: a multiplication and an addition each, forward, and twice that backward. Nothing is counted
    of activations, batch normalisation, the update and validation.
    """
    network, _ = make_configs(hyperparameters, epochs=1)
    widths = (math.prod(dataset.feature_shape), *network.widths, dataset.n_classes)
    return 6.0 * sum(a * b for a, b in itertools.pairwise(widths)) * len(dataset.train.labels)


def steps_of_epoch(configuration: Configuration, dataset: Dataset) -> int:
    """Return how many batches an epoch of training has."""
    _, training = make_configs(configuration.hyperparameters, epochs=1)
    return math.ceil(len(dataset.train.labels) / training.batch_size)


def describe_sample(configurations: Sequence[Configuration], n_first: int, dataset: Dataset, *, epochs: int) -> str:
    """Say how the first configurations compare with the whole list, since slow sides train only those."""

    def means(chosen: Sequence[Configuration]) -> str:
        flop = np.mean([flop_of_epoch(each.hyperparameters, dataset) for each in chosen]) * epochs / 1e9
        steps = np.mean([steps_of_epoch(each, dataset) for each in chosen]) * epochs
        return f"{flop:.1f} GFLOP and {steps:.0f} steps a trial"

    return f"the first {n_first}: {means(configurations[:n_first])}; all {len(configurations)}: {means(configurations)}"


def arrays_of(dataset: Dataset) -> Data:
    """Return a data set's arrays for the peers, as float32, which saves them the conversion."""
    from caviar.networks import fit_normalization  # it brings TensorFlow

    mean, variance = fit_normalization(dataset.train.features)
    return Data(
        train_features=dataset.train.features.astype(np.float32),
        train_labels=dataset.train.labels,
        validation_features=dataset.validation.features.astype(np.float32),
        validation_labels=dataset.validation.labels,
        mean=mean,
        variance=variance,
    )
