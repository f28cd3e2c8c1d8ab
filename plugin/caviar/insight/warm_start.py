"""What a study took over from another one, in words and as data."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..parameters import ChoiceParameter
from ..search.warm_start import Configuration, WarmStart
from ..space import SearchSpace
from .axes import shown


def prior_ranges(warm: WarmStart, space: SearchSpace) -> dict[str, str]:
    """Return what the narrower space narrows, in words: hyperparameter → its range or choices there."""
    wide = {parameter.name: parameter for parameter in space.parameters}
    narrowed = () if warm.prior is None else warm.prior.parameters
    return {
        parameter.name: ", ".join(shown(choice) for choice in parameter.choices)
        if isinstance(parameter, ChoiceParameter)
        else f"{shown(parameter.low)} to {shown(parameter.high)}"
        for parameter in narrowed
        if parameter != wide[parameter.name]
    }


def warm_start_table(warm: WarmStart | None, space: SearchSpace) -> dict[str, Any] | None:
    """Return what a study takes over, ready for JSON, or None for a cold start.

    Args:
        warm: What it takes over.
        space: What it searches.

    Returns:
        ``source``; ``n_trials``, those of its trials that had a result; ``configurations``, each with the ``study`` and
        the ``trial`` that it was, the ``value`` reached there, and ``hyperparameters``, of which the n-th is trial n's;
        ``prior``, hyperparameter → range; ``prior_share``; ``reason``.
    """
    if warm is None:
        return None
    configurations = [
        {**dataclasses.asdict(configuration), "hyperparameters": _drawn(configuration, space)}
        for configuration in warm.configurations
    ]
    for configuration in configurations:
        del configuration["params"]
    return {
        "source": warm.source,
        "n_trials": warm.n_trials,
        "configurations": configurations,
        "prior": prior_ranges(warm, space),
        "prior_share": warm.prior_share,
        "reason": warm.reason,
    }


def warm_start_sentences(table: Mapping[str, Any]) -> list[str]:
    """Return in words what ``warm_start_table`` says: what was tried first, and where else the search looks."""
    source, configurations = table["source"], table["configurations"]
    taken = _joined([_name(configuration, source) for configuration in configurations])
    sentences = [f"begun from {source}" + (f", whose {taken} it tries first" if taken else "")]
    if table["prior"]:
        ranges = "; ".join(f"{name} {text}" for name, text in table["prior"].items())
        share = f"{100 * table['prior_share']:.0f} %"
        sentences.append(f"once these prove better than its own, {share} of its random draws are from {ranges}")
    return sentences


def _drawn(configuration: Configuration, space: SearchSpace) -> dict[str, Any]:
    """Return what is taken of a configuration, by the names that the user thinks of."""
    found = space.hyperparameters(configuration.params)
    return {name: value for name, value in found.items() if name not in space.fixed}


def _name(configuration: Mapping[str, Any], source: str) -> str:
    where = "" if configuration["study"] == source else f" of {configuration['study']}"
    return f"trial {configuration['trial']}{where}"


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
