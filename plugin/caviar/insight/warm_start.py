"""What a study took over from another one, in words and as data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..search.warm_start import WarmStart
from ..space import SearchSpace
from .words import listed, range_shown


def warm_start_table(warm: WarmStart | None, space: SearchSpace) -> dict[str, Any] | None:
    """Return what a study takes over, ready for JSON, or None for a cold start.

    ``source``; ``n_trials``, how many of its trials had a result; ``configurations``, the n-th of them trial n's, each
    with the ``study`` and the ``trial`` that it was, the ``value`` reached there, and ``hyperparameters``; ``prior``,
    hyperparameter → the narrower range that draws come from; ``prior_share``; ``reason``.
    """
    if warm is None:
        return None
    table = dataclasses.asdict(dataclasses.replace(warm, prior=None))
    for configuration in table["configurations"]:
        taken = space.hyperparameters(configuration.pop("params"))
        configuration["hyperparameters"] = {name: value for name, value in taken.items() if name not in space.fixed}
    narrowed = () if warm.prior is None else warm.prior.parameters
    return table | {"prior": {one.name: range_shown(one) for one in narrowed if one not in space.parameters}}


def warm_start_sentences(table: Mapping[str, Any] | None) -> list[str]:
    """Return in words what ``warm_start_table`` says: what is tried first, and where else the search looks."""
    if table is None:
        return []
    source = table["source"]
    tried = [
        f"trial {one['trial']}" + ("" if one["study"] == source else f" of {one['study']}")
        for one in table["configurations"]
    ]
    sentences = [f"warm start from {source}" + (f": tries its {listed(tried)} first" if tried else "")]
    if table["prior"]:
        ranges = "; ".join(f"{name} {text}" for name, text in table["prior"].items())
        share = f"{table['prior_share']:.0%}"
        sentences.append(f"once these beat its own draws, {share} of its random draws come from {ranges}")
    return sentences
