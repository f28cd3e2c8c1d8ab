"""Optuna's TPE as a study file's sampler has it, every setting that Optuna has changed its mind about named."""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import optuna

TPE_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {"n_startup_trials": 10, "n_ei_candidates": 24, "multivariate": True, "group": True, "constant_liar": True}
)


def make_tpe(seed: int) -> optuna.samplers.TPESampler:
    """Return a TPE sampler with ``TPE_SETTINGS``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # chosen, with its settings named
        return optuna.samplers.TPESampler(**TPE_SETTINGS, seed=seed)
