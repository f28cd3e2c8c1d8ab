"""Values that a user gave a trial, with ``enqueue_trial`` or ``FixedTrial``, in place of a sampler's."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ..errors import SpaceError, nearest_name
from ..parameters import complement
from ..space import SearchSpace


def take_given(trial: optuna.trial.BaseTrial, space: SearchSpace) -> None:
    """Have a trial draw what it was given, whichever of its names each value was given under.

    Optuna ignores a name that is never drawn, and draws a value outside its range with a warning.

    Args:
        trial: Optuna's. What was enqueued must lie inside the space; a ``FixedTrial`` may leave it.
        space: What is drawn.

    Raises:
        SpaceError: If the space does not draw a name, or not such a value.
    """
    # There is no public way to rename what a trial was given.
    if isinstance(trial, optuna.trial.FixedTrial):
        trial._params = stored_params(trial._params, space)
    elif isinstance(trial, optuna.Trial) and trial._fixed_params:
        trial._fixed_params = stored_params(trial._fixed_params, space)
        check_inside(trial._fixed_params, space.distributions())


def stored_params(given: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Return values under the names that Optuna stores: ``momentum`` 0.95 as ``one_minus_momentum`` 0.05.

    Args:
        given: Hyperparameter or stored name → value. What the space fixes may be given as it is fixed.
        space: What is drawn.

    Raises:
        SpaceError: If the space draws no such name, or a value is given under both its names.
    """
    names = space.stored_by_name()
    known = dict.fromkeys([*names, *names.values()])
    stored: dict[str, Any] = {}
    for name, value in given.items():
        if name in space.fixed:
            if value != space.fixed[name]:
                raise SpaceError(f"{name} is fixed to {space.fixed[name]!r} in this space, but was given as {value!r}.")
            continue
        if name not in known:
            raise SpaceError(f"This space draws no {name!r}. {nearest_name(name, known)}")
        key = names.get(name, name)
        if key in stored:
            raise SpaceError(f"{key} was given twice, under both its names. Give it once.")
        if key != name and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise SpaceError(f"{name} must be a number, but was given as {value!r}.")
        stored[key] = complement(value) if key != name else value
    return stored


def check_inside(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> None:
    """Refuse values outside their ranges.

    Raises:
        SpaceError: Naming the first, and what is allowed.
    """
    for name, value in params.items():
        distribution = distributions[name]
        if not _is_inside(value, distribution):
            if isinstance(distribution, CategoricalDistribution):
                allowed = f"one of {', '.join(map(repr, distribution.choices))}"
            else:
                assert isinstance(distribution, FloatDistribution | IntDistribution)
                whole = "a whole number " if isinstance(distribution, IntDistribution) else ""
                allowed = f"{whole}from {distribution.low} to {distribution.high}"
            raise SpaceError(f"{name} must be {allowed} in this space, but was given as {value!r}.")


def _is_inside(value: Any, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return distribution.low <= value <= distribution.high and (
        isinstance(distribution, FloatDistribution) or value == int(value)
    )
