"""Panda: one trial under your eyes. Begins it, has a worker train it, and says how it stands."""

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ..attributes import ENQUEUED, OWNER
from ..interventions import LIVE, Request, curves_of, interventions_of, live_values
from ..metrics import direction_of
from ..search.given_params import check_inside, stored_params
from ..search.promotion import is_held
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..storage.places import address_of
from ..study_file import apply_setting
from ..worker.best_network import best_trial
from .control import control_trial, find_trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialView:
    """How a trial stands.

    Attributes:
        study: The study's name.
        number: The trial's.
        state: Optuna's word for it, ``PAUSED`` where it was paused by hand.
        metric: What the study optimises.
        epochs: Epochs on its curve.
        max_epochs: Epochs that it trains in all.
        best: The best value of the metric so far, and its epoch; None before the first.
        curves: Each stored metric by epoch.
        live: The live hyperparameters as they are now.
        fixed: The others.
        interventions: What was changed by hand, in words.
        worker: Who trains it, ``host:pid``, or None.
    """

    study: str
    number: int
    state: str
    metric: str
    epochs: int
    max_epochs: int
    best: tuple[float, int] | None
    curves: Mapping[str, Sequence[float]]
    live: Mapping[str, float]
    fixed: Mapping[str, Any]
    interventions: Sequence[str]
    worker: str | None


def begin_trial(home: Home, study: str, *, settings: Sequence[str] = ()) -> int:
    """Queue a trial with the best trial's hyperparameters and some others, to be watched; return its number.

    It takes a place in the budget, if one is left. What neither the best trial nor the settings name is drawn.

    Args:
        home: Where the study lives.
        study: Its name or its file.
        settings: ``NAME=VALUE``, by the names of the study file's ``[space]``.

    Raises:
        SpaceError: If a name is not searched, or a value is outside its range.
    """
    _, opened = open_existing(home, study)
    space = required_spec(opened).space
    best = best_trial(opened)
    drawn = {parameter.name for parameter in space.parameters}
    given = {} if best is None else {k: v for k, v in space.hyperparameters(best.params).items() if k in drawn}
    for setting in settings:
        apply_setting(given, setting)
    params = stored_params(given, space)
    check_inside(params, space.distributions())
    known = len(opened.get_trials(deepcopy=False))
    opened.enqueue_trial(params)
    number = next(
        trial.number
        for trial in opened.get_trials(deepcopy=False)[known:]
        if trial.system_attrs.get(ENQUEUED) == params  # other workers may have begun trials meanwhile
    )
    control_trial(home, study, number, Request(action="watch"), wait_s=0)
    return number


def take_over(home: Home, study: str, number: int) -> bool:
    """Watch a trial that runs or waits, and resume it if it is paused.

    Returns:
        Whether it waits for a worker.

    Raises:
        SpecError: If there is no such trial, or it has ended.
    """
    _, opened = open_existing(home, study)
    trial = find_trial(opened, number)
    control_trial(home, study, number, Request(action="watch"), wait_s=0)
    if trial.state != TrialState.WAITING:
        return False
    control_trial(home, study, number, Request(action="resume"), wait_s=0)
    return True


def start_worker(home: Home, study: str, number: int) -> "subprocess.Popen[bytes]":
    """Start a process that trains one trial, and goes on when this one ends; its log stands beside the reports."""
    log = home.worker_logs / f"{study}.{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "caviar", "worker", study, "--trial", str(number), "--home", str(home.path)]
    # Not in the process list, for they may hold passwords.
    addresses = {"CAVIAR_STORAGE": home.storage, "MLFLOW_TRACKING_URI": home.tracking_uri}
    addresses["CAVIAR_FILES"] = address_of(home.files)
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  (our own command; names and numbers are arguments, not a shell's text)
            command,
            env={**os.environ, **addresses},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def view_trial(home: Home, study: str, number: int) -> TrialView:
    """Return how a trial stands, as the storage has it.

    Raises:
        SpecError: If there is no such trial.
    """
    _, opened = open_existing(home, study)
    spec, trial = required_spec(opened), find_trial(opened, number)
    metric = spec.objective.metric
    hyperparameters = spec.space.hyperparameters(trial.params)
    interventions = interventions_of(trial.user_attrs)
    lengths = [int(one.new) for one in interventions if one.action == "epochs" and one.new is not None]
    curves = curves_of(trial, metric)
    return TrialView(
        study=opened.study_name,
        number=number,
        state="PAUSED" if is_held(trial) else trial.state.name,
        metric=metric,
        epochs=len(curves[metric]),
        max_epochs=[spec.objective.epochs, *lengths][-1],
        best=_best(curves[metric], metric),
        curves=curves,
        live=live_values(hyperparameters, interventions),
        fixed={name: value for name, value in hyperparameters.items() if name not in LIVE},
        interventions=[str(one) for one in interventions],
        worker=_worker(trial) if trial.state == TrialState.RUNNING else None,
    )


def _best(curve: Sequence[float], metric: str) -> tuple[float, int] | None:
    finite = [(value, epoch) for epoch, value in enumerate(curve) if math.isfinite(value)]
    cost = direction_of(metric).cost
    return min(finite, key=lambda point: cost(point[0]), default=None)


def _worker(trial: FrozenTrial) -> str | None:
    owner = trial.system_attrs.get(OWNER)
    return None if owner is None else str(owner).rpartition(":")[0]
