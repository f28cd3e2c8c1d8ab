"""The pruners of a study file, by name."""

from collections.abc import Mapping
from typing import Any

import optuna

from ..errors import SpecError
from ..imports import import_callable
from ..spec import PRUNERS, SearchSpec
from .promotion import PromotionRule
from .samplers import check_options, construct, option_names
from .stages import default_promotion


def make_pruner(search: SearchSpec, *, epochs: int) -> optuna.pruners.BasePruner:
    """Return a study file's pruner, with every setting that Optuna would guess named.

    For ``promotion`` it never stops a trial: workers pause trials, by ``promotion_rule``. ``patient`` wraps the pruner
    that its option ``wrapped`` names; without one it prunes what no longer improves. ``epochs`` is hyperband's largest
    resource. Raises SpecError if the pruner does not take an option or refuses its value.
    """
    if search.pruner == "promotion":
        promotion_rule(search, epochs=epochs)
        return optuna.pruners.NopPruner()
    return _make(search.pruner, dict(search.pruner_options), epochs=epochs)


def promotion_rule(search: SearchSpec, *, epochs: int) -> PromotionRule:
    """Return when a study's trials are judged by the pruner ``promotion``; for any other pruner, a rule without rungs.

    Raises SpecError if an option is neither ``reduction`` nor ``min_epochs``, not a whole number, or outside its range.
    """
    if search.pruner != "promotion":
        return PromotionRule(max_epochs=epochs, min_epochs=epochs)
    default = default_promotion(epochs)
    allowed = {"reduction": default.reduction, "min_epochs": default.min_epochs}
    check_options("pruner 'promotion'", search.pruner_options, list(allowed))
    for key, value in search.pruner_options.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise SpecError(f"search.pruner_options.{key} must be a whole number, but got {value!r}.")
    return PromotionRule(max_epochs=epochs, **{**allowed, **search.pruner_options})


def _make(name: str, options: dict[str, Any], *, epochs: int) -> optuna.pruners.BasePruner:
    settings: Mapping[str, Any]
    if name == "patient":
        wrapped, inner_options = options.pop("wrapped", "none"), options.pop("wrapped_options", {})
        if not isinstance(wrapped, str) or not isinstance(inner_options, dict):
            raise SpecError(
                f"For the pruner 'patient', wrapped is a name and wrapped_options a table, but got {wrapped!r} "
                f"and {inner_options!r}."
            )
        inner = None if wrapped == "none" else _make(wrapped, dict(inner_options), epochs=epochs)
        check_options("pruner 'patient'", options, ["patience", "min_delta", "wrapped", "wrapped_options"])
        pruner_class, settings = optuna.pruners.PatientPruner, {"wrapped_pruner": inner, "patience": 3}
    else:
        pruner_class, settings = _stock_pruner(name, epochs=epochs)
        check_options(f"pruner {name!r}", options, option_names(pruner_class))
    arguments, kind = {**settings, **options}, optuna.pruners.BasePruner
    return construct(pruner_class, arguments, what=f"pruner {name!r}", kind=kind)  # type: ignore[type-abstract]


def _stock_pruner(name: str, *, epochs: int) -> tuple[Any, Mapping[str, Any]]:
    stock: dict[str, tuple[Any, Mapping[str, Any]]] = {
        "none": (optuna.pruners.NopPruner, {}),
        "median": (optuna.pruners.MedianPruner, {"n_startup_trials": 5, "n_warmup_steps": 0}),
        "percentile": (optuna.pruners.PercentilePruner, {"percentile": 25.0, "n_startup_trials": 5}),
        "successive_halving": (optuna.pruners.SuccessiveHalvingPruner, {"min_resource": 1, "reduction_factor": 4}),
        "hyperband": (
            optuna.pruners.HyperbandPruner,
            {"min_resource": 1, "max_resource": epochs, "reduction_factor": 3},
        ),
        "threshold": (optuna.pruners.ThresholdPruner, {}),
        "wilcoxon": (optuna.pruners.WilcoxonPruner, {}),
    }
    if name in stock:
        return stock[name]
    if name in PRUNERS or ":" not in name:
        raise SpecError(f"No pruner is called {name!r}. Allowed: {', '.join(PRUNERS)}.")
    return import_callable(name, what="search.pruner"), {}
