"""The samplers that a study file may name, and all that is known of each."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownSampler:
    """What is known of a sampler."""

    optuna_class: str | None = None  # in ``optuna.samplers``; None for a sampler of our own, or of the user's
    # Arguments of that class where the study file gives none. Whatever Optuna has changed its mind about is named, so
    # that another release does not change what a resumed study does.
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] | None = None  # of ``sampler_options``; None for all that the class takes but its seed
    is_sequence: bool = False  # whether trial n takes point n of one sequence
    # Results that it needs before it learns from them; until then it draws at random. Infinite where it never learns, 0
    # where it never draws at random.
    n_startup: float = 10
    extra: tuple[str, str] | None = None  # the package that it needs beyond our own dependencies, and our extra with it
    min_ranges: int = 0  # parameters with a range that the space must have

    @property
    def is_blind(self) -> bool:
        """Whether what it draws never depends on results."""
        return self.is_sequence or self.n_startup == math.inf


SAMPLERS: Final[Mapping[str, KnownSampler]] = {
    "random": KnownSampler(optuna_class="RandomSampler", n_startup=math.inf),
    "grid": KnownSampler(options=("points",), is_sequence=True, n_startup=0),
    "qmc": KnownSampler(options=("qmc_type",), is_sequence=True, n_startup=0),
    "tpe": KnownSampler(
        optuna_class="TPESampler",
        settings={
            "n_startup_trials": 10,
            "n_ei_candidates": 24,
            "multivariate": True,
            "group": True,
            "constant_liar": True,
        },
    ),
    "zoom": KnownSampler(options=("stages", "keep", "tiers")),
    "cmaes": KnownSampler(
        optuna_class="CmaEsSampler",
        settings={
            "n_startup_trials": 1,
            "consider_pruned_trials": True,
            "warn_independent_sampling": False,
            "independent_sampler": None,  # made for every trial, with a seed of its own
        },
        n_startup=1,
        min_ranges=2,
    ),
    "gp": KnownSampler(
        optuna_class="GPSampler",
        settings={
            "n_startup_trials": 10,
            "deterministic_objective": False,
            "warn_independent_sampling": False,
            "independent_sampler": None,  # as for cmaes
        },
        extra=("torch", "gp"),
    ),
}


def known_sampler(name: str) -> KnownSampler:
    """Return what is known of a sampler: of one of the user's own, ``module:name``, nothing."""
    return SAMPLERS.get(name) or KnownSampler(n_startup=0)
