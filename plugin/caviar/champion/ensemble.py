"""Whether several networks of the winning configuration, averaged, are better than one."""

import dataclasses
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray

from ..attributes import ENSEMBLE
from ..data.dataset import Split
from ..data.loading import Data
from ..search.seeds import trial_seed
from ..spec import StudySpec
from .race import LEVEL, p_value
from .refit import train_networks
from .saved import probabilities_of

_LEAST: Final = 1e-7  # as Keras clips probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """How an ensemble compares with its members.

    Attributes:
        n_networks: How many are averaged.
        alone: For each cut of the data, the metric of one network, averaged over the members.
        together: For each cut, the metric of their mean probabilities.
        p_value: Of a one-sided paired t-test that it is no better.
        is_kept: Whether it is better, by the test at the race's level.
    """

    n_networks: int
    alone: tuple[float, ...]
    together: tuple[float, ...]
    p_value: float
    is_kept: bool


def compare_ensemble(
    study: optuna.Study,
    data: Data,
    spec: StudySpec,
    params: Mapping[str, Any],
    *,
    epochs: int,
    n_networks: int,
    n_cuts: int,
    stop: threading.Event,
    say: Callable[[str], None] = lambda _line: None,
) -> Ensemble | None:
    """Train an ensemble on several new cuts of the data, and compare it with its members there.

    What is done is kept on the study, so the next call goes on from there.

    Args:
        study: The race.
        data: Its data.
        spec: The search's study file.
        params: The winner's, as Optuna stores them.
        epochs: Passes over the data.
        n_networks: At least 2.
        n_cuts: At least 2.
        stop: Set from outside to leave after the cut at hand.
        say: Called with what is trained next.

    Returns:
        How it compares; None if it was stopped before.

    Source:
        Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation Using Deep
        Ensembles, NeurIPS 2017.
    """
    begun = {"params": dict(params), "epochs": epochs, "n_networks": n_networks}
    kept = json.loads(study.user_attrs.get(ENSEMBLE, "{}"))
    values: list[list[float]] = kept["values"] if kept.get("begun") == begun else []
    metric, hyperparameters = spec.objective.metric, spec.space.hyperparameters(params)
    for number in range(len(values), n_cuts):
        if stop.is_set():
            return None
        say(f"{n_networks} networks train for {epochs} epochs on cut {number + 1} of {n_cuts}, to be averaged.")
        seed = trial_seed(spec.seed, number, "ensemble")
        cut = data.cut(validation_fraction=spec.data.validation_fraction, seed=seed)
        seeds = [trial_seed(seed, member, "member") for member in range(n_networks)]
        models = train_networks(cut, spec, hyperparameters, epochs=epochs, seeds=seeds)
        given = [probabilities_of(model, cut.validation.features) for model in models]
        alone = np.mean([measure(metric, probabilities, cut.validation) for probabilities in given])
        values.append([float(alone), measure(metric, np.mean(given, axis=0), cut.validation)])
        study.set_user_attr(ENSEMBLE, json.dumps({"begun": begun, "values": values}))
    return judge(
        [pair[0] for pair in values[:n_cuts]],
        [pair[1] for pair in values[:n_cuts]],
        n_networks=n_networks,
        maximize=spec.objective.direction == "maximize",
    )


def judge(alone: Sequence[float], together: Sequence[float], *, n_networks: int, maximize: bool) -> Ensemble:
    """Decide whether an ensemble is kept, from what it and its members reach on the same cuts."""
    gains = (np.asarray(together) - np.asarray(alone)) * (1.0 if maximize else -1.0)
    spread = float(np.std(gains, ddof=1)) / np.sqrt(len(gains))
    chance = p_value(float(gains.mean()), spread, freedom=len(gains) - 1)
    return Ensemble(
        n_networks=n_networks,
        alone=tuple(alone),
        together=tuple(together),
        p_value=chance,
        is_kept=chance < LEVEL,
    )


def measure(metric: str, probabilities: NDArray[np.floating[Any]], split: Split) -> float:
    """Return a study's metric for predictions, as its trainers compute it.

    Args:
        metric: ``val_accuracy``, ``val_loss``, ``val_balanced_accuracy`` or ``val_macro_f1``.
        probabilities: Shape (n, n_classes).
        split: What was predicted.
    """
    from sklearn.metrics import balanced_accuracy_score, f1_score

    labels, predicted = split.labels, probabilities.argmax(axis=1)
    if metric == "val_loss":
        given = np.clip(probabilities[np.arange(len(labels)), labels], _LEAST, 1.0)
        return float(-np.log(given).mean())
    if metric == "val_balanced_accuracy":
        return float(balanced_accuracy_score(labels, predicted))
    if metric == "val_macro_f1":
        return float(f1_score(labels, predicted, average="macro", zero_division=0))
    return float((predicted == labels).mean())
