"""Values that the user gave a trial, with ``enqueue_trial`` or ``FixedTrial``, in place of the sampler's."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ..errors import SpaceError, nearest_name
from ..parameters import complement
from ..space import SearchSpace
from .sequences import contains


def take_given(trial: optuna.trial.BaseTrial, space: SearchSpace) -> None:
    """Make a trial draw the values that it was given, under a hyperparameter's name or the one that Optuna stores.

    Optuna ignores a name that is never drawn, and draws a value outside its range with a warning. It has no public way
    to rename what a trial was given, hence its private ``FixedTrial._params`` and ``Trial._fixed_params``. Raises
    SpaceError if the space does not draw a name, or an enqueued value lies outside it, as a ``FixedTrial``'s may.
    """
    if isinstance(trial, optuna.trial.FixedTrial):
        trial._params = stored_params(trial._params, space)
    elif isinstance(trial, optuna.Trial) and trial._fixed_params:
        trial._fixed_params = stored_params(trial._fixed_params, space)
        check_inside(trial._fixed_params, space.distributions())


def stored_params(given: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Return values under the names that Optuna stores: ``momentum`` 0.95 as ``one_minus_momentum`` 0.05.

    Raises SpaceError if the space draws no such name, fixes it to another value, or a value is given under both names.
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
    """Raise a SpaceError for the first value outside its range."""
    for name, value in params.items():
        distribution = distributions[name]
        if not contains(distribution, value):
            if isinstance(distribution, CategoricalDistribution):
                allowed = f"one of {', '.join(map(repr, distribution.choices))}"
            else:
                assert isinstance(distribution, FloatDistribution | IntDistribution)
                whole = "a whole number " if isinstance(distribution, IntDistribution) else ""
                allowed = f"{whole}from {distribution.low} to {distribution.high}"
            raise SpaceError(f"{name} must be {allowed} in this space, but was given as {value!r}.")
