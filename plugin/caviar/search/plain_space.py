"""The space of any Optuna study, made from what its trials drew."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ..parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainSpace:
    """Parameters that every trial draws, by the names that Optuna stores.

    Attributes:
        parameters: Those that can be narrowed.
        others: What is drawn from its whole range always: with a step, or with choices that are equal to each other.
    """

    parameters: tuple[Parameter, ...]
    others: Mapping[str, BaseDistribution] = dataclasses.field(default_factory=dict)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of every parameter."""
        return {**{parameter.name: parameter.distribution for parameter in self.parameters}, **self.others}

    def stored_names(self, parameter: Parameter) -> tuple[str, ...]:
        """Return the one name under which a parameter is stored."""
        return (parameter.name,)

    def with_parameters(self, parameters: Iterable[Parameter]) -> "PlainSpace":
        """Return this space with other ranges."""
        return dataclasses.replace(self, parameters=tuple(parameters))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw every parameter."""
        return {name: trial._suggest(name, drawn) for name, drawn in self.distributions().items()}


def plain_space(distributions: Mapping[str, BaseDistribution]) -> PlainSpace:
    """Return the space of what a study draws: on a log scale what Optuna samples on one."""
    found = {name: parameter_of(name, distribution) for name, distribution in distributions.items()}
    return PlainSpace(
        parameters=tuple(parameter for parameter in found.values() if parameter is not None),
        others={name: distributions[name] for name, parameter in found.items() if parameter is None},
    )


def parameter_of(name: str, distribution: BaseDistribution) -> Parameter | None:
    """Return the parameter that a distribution draws, or None where its range is not to be narrowed."""
    if isinstance(distribution, CategoricalDistribution):
        repeated = any(choice in distribution.choices[:place] for place, choice in enumerate(distribution.choices))
        choices: tuple[Any, ...] = distribution.choices
        return None if repeated else ChoiceParameter(name=name, choices=choices)
    if distribution.single():
        return None
    if isinstance(distribution, IntDistribution) and distribution.step == 1:
        return IntParameter(name=name, low=distribution.low, high=distribution.high, scale=_scale(distribution))
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        return FloatParameter(name=name, low=distribution.low, high=distribution.high, scale=_scale(distribution))
    return None


def _scale(distribution: IntDistribution | FloatDistribution) -> Literal["uniform", "log"]:
    return "log" if distribution.log else "uniform"
