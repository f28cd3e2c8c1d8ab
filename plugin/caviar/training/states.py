"""The checks that both trainers make of what they are given for a lane."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..config import NetworkConfig, TrainingConfig
from .trainer import Hyperparameter


def check_value(training: TrainingConfig, name: Hyperparameter, value: float) -> None:
    """Raise SpaceError where a hyperparameter is outside the range that its config checks."""
    if name == "dropout":
        NetworkConfig(dropout=value)
    elif name == "l2":
        NetworkConfig(l2=value)
    else:
        dataclasses.replace(training, **{name: value})  # type: ignore[arg-type]  # the name is one of three fields


def check_state(state: Mapping[str, npt.NDArray[np.generic]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError where a state's keys or shapes are not those of the lane; ``epoch`` and ``seed`` are scalars."""
    expected = {"epoch": (), "seed": (), **shapes}
    differing = sorted(
        key for key in expected.keys() | state.keys() if key not in state or state[key].shape != expected.get(key)
    )
    if differing:
        raise ValueError(
            f"The state is not that of this network and optimizer: {', '.join(differing[:5])} differ in presence or "
            "shape. Load it into a trainer made as the one that gave it."
        )
