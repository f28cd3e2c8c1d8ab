"""Live control in words that can be stored: what is asked of a running trial, and what was changed."""

import dataclasses
import datetime
import getpass
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from optuna.trial import FrozenTrial

from .attributes import CHANGES, CURVES, INTERVENTIONS, WATCHED
from .config import DEFAULTS, MAX_EPOCHS, NetworkConfig, TrainingConfig
from .errors import SpaceError, SpecError, nearest_name

LiveHyperparameter = Literal["learning_rate", "momentum", "decay_rate", "dropout", "l2"]
"""A hyperparameter that can change while a network trains, without a new trace."""

LIVE: Final = get_args(LiveHyperparameter)

Action = Literal["watch", "set", "epochs", "back", "pause", "resume", "stop", "fork"]
"""What can be asked of a trial.

``watch`` has its curves stored and a checkpoint kept after every epoch, and changes nothing.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks of a trial; it takes effect before the trial's next epoch.

    Attributes:
        action: What is to be done.
        values: For ``set``, and for a fork's first change: the new value of each live hyperparameter.
        epochs: For ``epochs``: how many the trial trains in all.
        epoch: For ``back`` and ``fork``: the epoch to go back to, or to fork after; None forks where the trial stands.
        who: Who asks, as ``user@host``.
        at: When, as ISO 8601 in UTC.

    Raises:
        SpecError: If the action, a hyperparameter or a number is not one of those allowed.
        SpaceError: If a hyperparameter's value is outside its range.
    """

    action: Action
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epochs: int | None = None
    epoch: int | None = None
    who: str = dataclasses.field(default_factory=lambda: _user_and_host())
    at: str = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"))

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise SpecError(f"{self.action!r} is no action. {nearest_name(str(self.action), get_args(Action))}")
        for name, value in self.values.items():
            check_live(name, value)
        if (self.action == "set") != bool(self.values) and self.action != "fork":
            raise SpecError("Name at least one value to set, such as learning_rate=0.01, and only with the action set.")
        for name, number, least, takes in (
            ("epochs", self.epochs, 1, ("epochs",)),
            ("epoch", self.epoch, 0, ("back", "fork")),
        ):
            if number is None:
                if takes[0] == self.action:
                    raise SpecError(f"The action {self.action} needs {name}.")
            elif self.action not in takes:
                raise SpecError(f"{name} does not go with the action {self.action}.")
            elif isinstance(number, bool) or not isinstance(number, int) or not least <= number <= MAX_EPOCHS:
                raise SpecError(f"{name} must be a whole number from {least} to {MAX_EPOCHS}, but got {number!r}.")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it; what it does not say is left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, {})}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervention:
    """One change that took effect on a trial.

    Attributes:
        action: What was done.
        epoch: Epochs on its curve when it took effect.
        trained: Epochs that it had trained in all: more than ``epoch`` if it went back before.
        name: For ``set``, the hyperparameter.
        old: The value, number of epochs, or epoch before; for a fork, the trial that it was forked from.
        new: The value, number of epochs, or epoch after.
        who: Who asked.
        at: When it was asked.
    """

    action: Action
    epoch: int
    trained: int
    name: str | None = None
    old: float | None = None
    new: float | None = None
    who: str
    at: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it; what it does not say is left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def __str__(self) -> str:
        """Say it in words, such as ``epoch 5: learning_rate 0.1 → 0.01 (ann@lab)``."""
        what = {
            "set": f"{self.name} {_number(self.old)} → {_number(self.new)}",
            "epochs": f"epochs {_number(self.old)} → {_number(self.new)}",
            "back": f"back from epoch {_number(self.old)} to {_number(self.new)}",
            "pause": "paused",
            "resume": "resumed",
            "stop": "stopped and kept",
            "fork": f"forked from trial {_number(self.old)}",
        }.get(self.action, self.action)
        return f"epoch {self.epoch}: {what} ({self.who})"


def interventions_of(user_attributes: Mapping[str, Any]) -> list[Intervention]:
    """Return a stored trial's interventions, in order."""
    return [Intervention(**row) for row in user_attributes.get(INTERVENTIONS) or ()]


def as_attributes(interventions: Sequence[Intervention]) -> dict[str, Any]:
    """Return the user attributes that keep a trial's interventions."""
    return {INTERVENTIONS: [one.to_json() for one in interventions], CHANGES: "; ".join(map(str, interventions))}


def is_changed(interventions: Sequence[Intervention]) -> bool:
    """Tell whether interventions changed what a trial learned: pausing and resuming do not."""
    return any(one.action not in ("pause", "resume") for one in interventions)


def was_changed(user_attributes: Mapping[str, Any]) -> bool:
    """Tell whether a stored trial was changed by hand, so that its parameters alone do not explain its value."""
    return INTERVENTIONS in user_attributes and is_changed(interventions_of(user_attributes))


def learned_trials(trials: Iterable[FrozenTrial], babysat: str) -> list[FrozenTrial]:
    """Return the trials that a search learns from; those that were changed by hand only if the study file says so."""
    return [trial for trial in trials if babysat == "learn" or not was_changed(trial.user_attrs)]


def live_values(hyperparameters: Mapping[str, Any], interventions: Iterable[Intervention]) -> dict[str, float]:
    """Return the live hyperparameters of a trial that began with some, after its interventions."""
    begun = {**DEFAULTS, **hyperparameters}
    values = {name: float(begun[name]) for name in LIVE}
    return values | {
        one.name: one.new
        for one in interventions
        if one.action == "set" and one.name is not None and one.new is not None
    }


def live_curves(
    interventions: Sequence[Intervention], hyperparameters: Mapping[str, Any], *, epochs: int
) -> dict[str, list[float]]:
    """Return, for each hyperparameter that was set by hand, its value in every epoch of the trial's curve.

    Args:
        interventions: The trial's, in order.
        hyperparameters: What it began with.
        epochs: How many its curve has.
    """
    curves = {
        one.name: [float(hyperparameters.get(one.name, one.old or 0.0))] * epochs
        for one in interventions
        if one.action == "set" and one.name is not None
    }
    for one in interventions:
        if one.action == "set" and one.name is not None and one.new is not None:
            curves[one.name][one.epoch :] = [one.new] * (epochs - one.epoch)
    return curves


def curves_of(trial: FrozenTrial, metric: str) -> Mapping[str, Sequence[float]]:
    """Return a trial's stored curves, or what it reported if that goes further."""
    reported = [value for _, value in sorted(trial.intermediate_values.items())]
    stored: Mapping[str, Sequence[float]] = trial.user_attrs.get(CURVES) or {}
    is_watched = WATCHED in trial.system_attrs  # one that went back has reported more than its curves have
    return stored if stored and (is_watched or len(stored[metric]) >= len(reported)) else {metric: reported}


def check_live(name: str, value: float) -> None:
    """Raise SpecError for what is no live hyperparameter, and SpaceError for a value outside its range."""
    if name not in LIVE:
        raise SpecError(f"{name!r} cannot change while a network trains. {nearest_name(name, LIVE)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpaceError(f"{name} must be a number, but got {value!r}.")
    (NetworkConfig if name in ("dropout", "l2") else TrainingConfig)(**{name: value})  # type: ignore[arg-type]  # one of their fields


def in_words(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words, runs of them by their ends: ``2, 7 to 9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.6g}"


def _user_and_host() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        user = "someone"
    return f"{user}@{socket.gethostname()}"
