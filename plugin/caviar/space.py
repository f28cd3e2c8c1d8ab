"""The search space: which hyperparameters are drawn, which are fixed, and what a network is then built from."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .config import CHOICES, DEFAULTS, NetworkConfig, TrainingConfig
from .errors import SpaceError, nearest_name
from .parameters import MAX_WHOLE, ChoiceParameter, FloatParameter, IntParameter, Parameter

if TYPE_CHECKING:  # as in parameters.py
    import optuna
    from optuna.distributions import BaseDistribution

_NETWORK_FIELDS = tuple(field.name for field in dataclasses.fields(NetworkConfig))
_TRAINING_FIELDS = tuple(field.name for field in dataclasses.fields(TrainingConfig) if field.name != "epochs")
_FIRST = ("learning_rate", "momentum", "batch_size", "depth", "units")
#: Every hyperparameter of the configurable networks, in the order in which they are drawn.
HYPERPARAMETERS: tuple[str, ...] = (*_FIRST, *sorted({*_NETWORK_FIELDS, *_TRAINING_FIELDS} - {*_FIRST}))
_INTEGERS = frozenset({"batch_size", "depth", "units"})

#: A hyperparameter that matters only for some values of another one is drawn only for those.
_ACTIVE_WHEN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "batch_norm_momentum": ("batch_norm", ("before_activation", "after_activation")),
    "decay_rate": ("decay", ("exponential", "inverse_time")),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a study searches and what it holds fixed.

    Raises:
        SpaceError: If a hyperparameter is both drawn and fixed, or could never matter.

    Example:
        >>> space = SearchSpace(parameters=(FloatParameter(name="learning_rate", low=1e-4, high=1.0, scale="log"),))
        >>> space.suggest(optuna.trial.FixedTrial({"learning_rate": 0.01}))
        {'learning_rate': 0.01}
    """

    parameters: tuple[Parameter, ...]  # what is drawn, in drawing order
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # hyperparameters that every trial shares
    # Whether each hidden layer draws its own width (``units_1`` … up to the trial's depth).
    units_per_layer: bool = False

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        twice = [name for index, name in enumerate(names) if name in names[:index] or name in self.fixed]
        if twice:
            raise SpaceError(f"{twice[0]} is in the space twice. Draw it or fix it, once.")
        for name, (parent, values) in _ACTIVE_WHEN.items():
            if name in names and not set(values) & set(self._possible(parent)):
                raise SpaceError(
                    f"{name} is searched, but it matters only if {parent} is one of {', '.join(values)}. "
                    f"Add one of them to {parent}, or leave {name} out."
                )
        if self.units_per_layer and "units" not in names:
            raise SpaceError("units_per_layer draws a width for each layer, but units has no range. Give it one.")
        if "exponential" in self._possible("decay") and max(self._possible("decay_rate")) >= 1:
            raise SpaceError(
                f"decay_rate must be below 1 if decay may be exponential, but got {max(self._possible('decay_rate'))}."
            )
        if isinstance(self.fixed.get("units"), tuple) and self._possible("depth") != (len(self.fixed["units"]),):
            raise SpaceError(
                f"units fixes a width for each of {len(self.fixed['units'])} layers, but depth may be "
                f"{' or '.join(map(str, self._possible('depth')))}. Fix depth to {len(self.fixed['units'])}."
            )

        stored = Counter(parameter.parameter for parameter in self._expanded())
        twice = [name for name, count in stored.items() if count > 1]
        if twice:
            raise SpaceError(
                f"Two parameters are stored as {twice[0]}: momentum on the scale log-complement is one_minus_momentum, "
                "and units_per_layer draws units_1, units_2 and so on. Rename yours."
            )

    def largest(self, name: str) -> int:
        """Return the largest value of a whole hyperparameter that may be drawn."""
        return max(max(value) if isinstance(value, tuple) else int(value) for value in self._possible(name))

    def suggest(self, trial: "optuna.trial.BaseTrial") -> dict[str, Any]:
        """Draw one value for every parameter that matters in this trial; return all hyperparameters, fixed ones too.

        ``units`` is a tuple if each layer has its own width.
        """
        drawn: dict[str, Any] = {}
        for parameter in self._expanded():
            if self._is_active(parameter.name, drawn):
                stored = suggest_value(trial, parameter.parameter, parameter.distribution)
                drawn[parameter.name] = parameter.value(stored)
        return self._assemble(drawn)

    def hyperparameters(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters that a stored trial's ``params`` stand for, including fixed ones."""
        drawn = (parameter for parameter in self._expanded() if parameter.parameter in params)
        return self._assemble({parameter.name: parameter.value(params[parameter.parameter]) for parameter in drawn})

    def distributions(self) -> "dict[str, BaseDistribution]":
        """Return Optuna's distribution of every parameter that any trial may draw, in drawing order."""
        return {parameter.parameter: parameter.distribution for parameter in self._expanded()}

    def stored_by_name(self) -> dict[str, str]:
        """Return the name under which Optuna stores each hyperparameter that any trial may draw."""
        return {parameter.name: parameter.parameter for parameter in self._expanded()}

    def stored_names(self, parameter: Parameter) -> tuple[str, ...]:
        """Return the names under which a trial may hold one of ``parameters``: with a width for each layer, several."""
        return tuple(drawn.parameter for drawn in self._drawn_as(parameter))

    def with_parameters(self, parameters: Iterable[Parameter]) -> "SearchSpace":
        """Return this space with other ranges, without parameters that could then never matter."""
        ranges = {parameter.name: parameter for parameter in parameters}
        for name, (parent, values) in _ACTIVE_WHEN.items():
            switch = ranges.get(parent)
            if isinstance(switch, ChoiceParameter) and not set(values) & set(switch.choices):
                ranges.pop(name, None)
        return dataclasses.replace(self, parameters=tuple(ranges.values()))

    def _expanded(self) -> Iterable[Parameter]:
        for parameter in self.parameters:
            yield from self._drawn_as(parameter)

    def _drawn_as(self, parameter: Parameter) -> Iterable[Parameter]:
        if self.units_per_layer and parameter.name == "units":
            for layer in range(1, max(self._possible("depth")) + 1):
                yield dataclasses.replace(parameter, name=f"units_{layer}")
        else:
            yield parameter

    def _is_active(self, name: str, drawn: Mapping[str, Any]) -> bool:
        known = {**self.fixed, **drawn}
        if self.units_per_layer and name.startswith("units_"):
            return int(name.removeprefix("units_")) <= int(known.get("depth", DEFAULTS["depth"]))
        if name in _ACTIVE_WHEN:
            parent, values = _ACTIVE_WHEN[name]
            return known.get(parent) in values
        return True

    def _assemble(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**self.fixed, **drawn}
        if self.units_per_layer:
            widths = {name: merged.pop(name) for name in list(merged) if name.startswith("units_")}
            depth = merged.get("depth", DEFAULTS["depth"])
            names = [f"units_{layer}" for layer in range(1, depth + 1)]
            merged["units"] = tuple(widths[name] for name in names if name in widths)
        return merged

    def _possible(self, name: str) -> tuple[Any, ...]:
        for parameter in self.parameters:
            if parameter.name == name:
                if isinstance(parameter, ChoiceParameter):
                    return parameter.choices
                return (parameter.low, parameter.high)
        default = {**DEFAULTS, **self.fixed}.get(name)
        return () if default is None else (default,)


def make_configs(hyperparameters: Mapping[str, Any], *, epochs: int) -> tuple[NetworkConfig, TrainingConfig]:
    """Return the values that a network and its training are built from; raises SpaceError if one is outside its range.

    Names that no config knows are left to the user's own network function.
    """
    network = {name: hyperparameters[name] for name in _NETWORK_FIELDS if name in hyperparameters}
    training = {name: hyperparameters[name] for name in _TRAINING_FIELDS if name in hyperparameters}
    return NetworkConfig(**network), TrainingConfig(epochs=epochs, **training)


def parse_space(table: Mapping[str, Any], *, own_names: bool = False) -> SearchSpace:
    """Read a study file's ``[space]``: hyperparameter → a fixed value, ``{low, high, scale}`` or ``{choices}``.

    With ``own_names``, other names than ours are allowed, for a network function of the user's that reads them. Raises
    SpaceError if a name, a key, a type or a range is not allowed.
    """
    parameters: list[Parameter] = []
    fixed: dict[str, Any] = {}
    for name, entry in table.items():
        if name == "units_per_layer":
            if not isinstance(entry, bool):
                raise SpaceError(f"units_per_layer must be true or false, but got {entry!r}.")
        elif name not in HYPERPARAMETERS and not own_names:
            raise SpaceError(f"No hyperparameter is called {name!r}. {nearest_name(name, HYPERPARAMETERS)}")
        elif isinstance(entry, Mapping):
            parameters.append(_parse_parameter(name, entry))
        else:
            fixed[name] = _check_value(name, entry)
    if isinstance(fixed.get("units"), tuple) and "depth" not in table:
        fixed["depth"] = len(fixed["units"])
    order = {name: index for index, name in enumerate(HYPERPARAMETERS)}
    parameters.sort(key=lambda drawn: (drawn.name in _ACTIVE_WHEN, order.get(drawn.name, len(order))))
    if not parameters:
        raise SpaceError("The space draws nothing. Give at least one hyperparameter a range or choices.")
    return SearchSpace(
        parameters=tuple(parameters), fixed=fixed, units_per_layer=bool(table.get("units_per_layer", False))
    )


def space_table(space: SearchSpace) -> dict[str, Any]:
    """Return the ``[space]`` table that ``parse_space`` reads back to the same space."""
    table: dict[str, Any] = {}
    for parameter in space.parameters:
        if isinstance(parameter, ChoiceParameter):
            table[parameter.name] = {"choices": list(parameter.choices)}
        else:
            table[parameter.name] = {"low": parameter.low, "high": parameter.high, "scale": parameter.scale}
    table |= {name: list(value) if isinstance(value, tuple) else value for name, value in space.fixed.items()}
    if space.units_per_layer:
        table["units_per_layer"] = True
    return table


#: What is searched where a study names no space: the six hyperparameters that the course ranks first.
DEFAULT_SPACE_TABLE: Mapping[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
    "momentum": {"low": 0.5, "high": 0.999, "scale": "log-complement"},
    "batch_size": {"choices": [32, 64, 128]},
    "depth": {"low": 1, "high": 4},
    "units": {"low": 16, "high": 256, "scale": "log"},
    "batch_norm": {"choices": ["none", "before_activation", "after_activation"]},
}


def _parse_parameter(name: str, entry: Mapping[str, Any]) -> Parameter:
    allowed = ("choices",) if "choices" in entry else ("low", "high", "scale")
    for key in entry:
        if key not in allowed:
            raise SpaceError(f"space.{name} has no key {key!r}. {nearest_name(key, allowed)}")
    if "choices" in entry:
        choices = entry["choices"]
        if not isinstance(choices, list | tuple):
            raise SpaceError(f"space.{name}.choices must be a list, but got {choices!r}.")
        return ChoiceParameter(name=name, choices=tuple(_check_value(name, choice) for choice in choices))
    missing = [key for key in ("low", "high") if key not in entry]
    if missing:
        raise SpaceError(
            f"space.{name} needs low and high, or choices, but {missing[0]} is missing: got {dict(entry)}."
        )
    if name in CHOICES:
        raise SpaceError(f"{name} is not a number: give it choices, from {', '.join(CHOICES[name])}, not a range.")
    low, high = _check_value(name, entry["low"]), _check_value(name, entry["high"])
    scale = entry.get("scale", "uniform")
    whole = name in _INTEGERS or (name not in HYPERPARAMETERS and isinstance(low, int) and isinstance(high, int))
    scales = ("uniform", "log") if whole else ("uniform", "log", "log-complement")
    if scale not in scales:
        raise SpaceError(f"space.{name} has no scale {scale!r}. {nearest_name(str(scale), scales)}")
    if whole:
        return IntParameter(name=name, low=low, high=high, scale=scale)
    return FloatParameter(name=name, low=float(low), high=float(high), scale=scale)


def _check_value(name: str, value: Any) -> Any:
    """Return the value, as a float or a tuple if the config's field is one; refuse what the config does not take."""
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise SpaceError(f"{name} must lie between -2^53 and 2^53, but got a number of {len(str(value))} digits.")
    if isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"{name} must be finite, but got {value}.")
    if name not in HYPERPARAMETERS:
        if not isinstance(value, str | int | float):
            raise SpaceError(f"{name} must be a number, a text or true/false, but got {value!r}.")
        return value
    if name == "units" and isinstance(value, list | tuple):
        checked = tuple(_check_value("units", width) for width in value)
        NetworkConfig(depth=len(checked), units=checked)
        return checked
    expected = str if name in CHOICES else int if name in _INTEGERS else float
    if isinstance(value, bool) or not isinstance(value, (int, float) if expected is float else expected):
        kind = {str: "a text", int: "a whole number", float: "a number"}[expected]
        raise SpaceError(f"{name} must be {kind}, but got {value!r}.")
    make_configs({name: expected(value)}, epochs=1)
    return expected(value)


def suggest_value(trial: "optuna.trial.BaseTrial", name: str, distribution: "BaseDistribution") -> Any:
    """Draw one parameter, by the name that Optuna stores."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    suggest: Any = trial.suggest_float if isinstance(distribution, FloatDistribution) else trial.suggest_int
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
