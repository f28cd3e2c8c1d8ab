"""Good defaults: what a hyperparameter is held at while those that matter more are searched.

Source:
    The course's "Tuning process": tune the learning rate first, then momentum, mini-batch size and hidden units, then
    the rest; 0.9 is a good default for momentum.
"""

import dataclasses
from typing import Any

from ..config import NetworkConfig, TrainingConfig
from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, complement
from .sequences import value_at


def good_default(parameter: Parameter) -> Any:
    """Return a sensible value of a parameter, as Optuna stores it, within its range.

    Choices and most ranges have what ``NetworkConfig`` and ``TrainingConfig`` have, momentum 0.9 and batches of 64
    among them, or the nearest that the range allows. Depth, widths and what no config knows are taken from the middle
    of the range on its own scale; of choices without the config's the first.

    Example:
        >>> good_default(FloatParameter(name="momentum", low=0.5, high=0.999, scale="log-complement"))
        0.1
    """
    default = None if _is_size(parameter.name) else _defaults().get(parameter.name)
    if isinstance(parameter, ChoiceParameter):
        default = _defaults().get(parameter.name)
        return default if default in parameter.choices else parameter.choices[0]
    if default is None:
        return value_at(parameter.distribution, 0.5)
    stored = complement(default) if _is_complement(parameter) else default
    return min(max(stored, parameter.distribution.low), parameter.distribution.high)


def _is_size(name: str) -> bool:
    return name in ("depth", "units") or name.startswith("units_")


def _is_complement(parameter: FloatParameter | IntParameter) -> bool:
    return parameter.scale == "log-complement"


def _defaults() -> dict[str, Any]:
    return {**dataclasses.asdict(NetworkConfig()), **dataclasses.asdict(TrainingConfig())}
