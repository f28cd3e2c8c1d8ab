"""Studies made of invented trials: nothing is trained."""

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from caviar.search.sequences import value_at
from caviar.spec import StudySpec, parse_spec

START = datetime.datetime(2026, 11, 22, 12, 0, 0)  # noqa: DTZ001  (Optuna's times are naive)
NOW = datetime.datetime(2026, 11, 22, 13, 0, 0, tzinfo=datetime.UTC)
DATA = "toy: 800 train, 200 validation, 10 classes, features (8, 8, 1)"

Score = Callable[[Mapping[str, Any]], float]


def make_spec(**changes: Any) -> StudySpec:
    """Return a study file: ten epochs, a random search of four hyperparameters in 60 trials."""
    table: dict[str, Any] = {
        "name": "toy",
        "data": {"dataset": "digits"},
        "objective": {"epochs": 10},
        "search": {"trials": 60, "sampler": "random", "pruner": "median"},
        "space": {
            "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
            "momentum": {"low": 0.5, "high": 0.999, "scale": "log-complement"},
            "depth": {"low": 1, "high": 4},
            "batch_norm": {"choices": ["none", "before_activation"]},
        },
    }
    return parse_spec({**table, **changes})


def learning_rate_alone(hyperparameters: Mapping[str, Any]) -> float:
    """Return an accuracy that is best at a learning rate of 0.1 and knows of nothing else."""
    return 0.98 - 0.1 * abs(math.log10(hyperparameters["learning_rate"]) + 1) ** 2 / 2


def make_trial(
    spec: StudySpec,
    rng: np.random.Generator,
    score: Score,
    *,
    state: TrialState = TrialState.COMPLETE,
    diverged: bool = False,
    user_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """Return a trial of random hyperparameters whose curve rises to its score; a pruned one ends after 3 epochs."""
    distributions = spec.space.distributions()
    params = {name: value_at(distribution, rng.random()) for name, distribution in distributions.items()}
    value = score(spec.space.hyperparameters(params))
    n_epochs = spec.objective.epochs if state == TrialState.COMPLETE else 3
    best = value if state == TrialState.COMPLETE else 0.9 * value
    curve = [best * (1 - 0.5 * 0.5**epoch) for epoch in range(n_epochs - 1)] + [best]
    finished = state in (TrialState.COMPLETE, TrialState.PRUNED)
    attributes: dict[str, Any] = {
        "curves": {"val_accuracy": curve, "accuracy": [min(1.0, 1.01 * point) for point in curve]},
        "best_value": best,
        "best_epoch": n_epochs - 1,
        "train_seconds": 1.0 + 0.1 * n_epochs,
    }
    trial = optuna.trial.create_trial(
        state=state,
        value=best if finished else None,
        params=params,
        distributions=distributions,
        intermediate_values=dict(enumerate(curve)) if finished else {},
        user_attrs={
            **(attributes if finished else {}),
            **({"diverged": True} if diverged else {}),
            **(user_attrs or {}),
        },
    )
    trial.datetime_start = START
    trial.datetime_complete = START + datetime.timedelta(seconds=2)
    return trial


def make_study(
    spec: StudySpec, *, n_complete: int = 40, n_pruned: int = 20, score: Score = learning_rate_alone, seed: int = 0
) -> optuna.Study:
    """Return a study in memory."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(study_name=spec.name, direction=spec.objective.direction.optuna)
    study.set_user_attr("data", DATA)
    states = [TrialState.COMPLETE] * n_complete + [TrialState.PRUNED] * n_pruned
    study.add_trials([make_trial(spec, rng, score, state=state) for state in states])
    return study
