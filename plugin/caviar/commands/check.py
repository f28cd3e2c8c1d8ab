"""Checking a study file: what a run would refuse is refused, one network is built and its epochs are timed."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

import optuna

from ..data.dataset import DatasetFacts
from ..data.loading import open_data
from ..data.names import absolute_data
from ..engines.quiet import import_tensorflow_quietly
from ..insight.cost import panda_or_caviar
from ..insight.words import shown
from ..search.sequences import value_at
from ..spec import StudySpec
from ..worker.objective import objective_of
from .run import check_runnable
from .sizing import check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found: the network in the middle of the space, how long it trains, and which approach fits.

    The first epoch includes building and tracing. ``search_h`` is the hours of the whole budget if nothing is pruned.
    ``columns`` are a table's columns with their kinds, ``odd_columns`` sentences about those to look at.
    """

    hyperparameters: Mapping[str, Any]
    summary: str
    output: str
    n_parameters: int
    first_epoch_s: float
    epoch_s: float
    search_h: float
    approach: str
    reason: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    odd_columns: tuple[str, ...] = ()


def check_spec(spec: StudySpec) -> CheckResult:
    """Validate a study file, build the network in the middle of its space and time an epoch; nothing is written."""
    spec = dataclasses.replace(spec, data=absolute_data(spec.data))
    check_runnable(spec)
    import_tensorflow_quietly()
    data = open_data(spec.data)
    dataset = data.cut(validation_fraction=spec.data.validation_fraction, seed=spec.seed)
    check_sizes(spec, DatasetFacts.of(dataset))
    objective = objective_of(spec, dataset)
    middle = {name: value_at(distribution, 0.5) for name, distribution in spec.space.distributions().items()}
    hyperparameters = spec.space.suggest(optuna.trial.FixedTrial(middle))
    lines: list[str] = []
    started = time.monotonic()
    with contextlib.closing(objective.make_trainer(hyperparameters, seed=spec.seed)) as trainer:
        trainer.run_epoch()
        first = time.monotonic()
        trainer.run_epoch()
        epoch_s = time.monotonic() - first
        model, output = trainer.lane_model(0), trainer.output
        model.summary(print_fn=lambda line, **_: lines.append(line), line_length=90)
        n_parameters = sum(int(weight.shape.num_elements()) for weight in model.trainable_weights)
    trial_s = spec.objective.epochs * epoch_s  # fleets trace a program once, and keep it
    if not spec.trains_in_fleets:
        # Each network is traced. A second one is timed, since some of what the first one takes is the process'.
        second = time.monotonic()
        with contextlib.closing(objective.make_trainer(hyperparameters, seed=spec.seed)) as trainer:
            trainer.run_epoch()
        trial_s += max(time.monotonic() - second - epoch_s, 0.0)
    n_trials = spec.search.trials
    approach, reason = panda_or_caviar(trial_s, n_trials, cores=os.cpu_count() or 1)
    return CheckResult(
        hyperparameters=hyperparameters,
        summary="\n".join(lines),
        output=output,
        n_parameters=n_parameters,
        first_epoch_s=first - started,
        epoch_s=epoch_s,
        search_h=trial_s * n_trials / 3600,
        approach=approach,
        reason=reason,
        columns=dict(data.kinds or {}),
        odd_columns=tuple(data.odd_columns()),
    )


def check_lines(result: CheckResult) -> list[str]:
    """Return a check's findings in words."""
    kinds = result.columns.values()
    return [
        *(f"{kind}: {', '.join(k for k, v in result.columns.items() if v == kind)}" for kind in dict.fromkeys(kinds)),
        *(f"Look at this: {line}" for line in result.odd_columns),
        result.summary,
        f"{result.n_parameters} trainable parameters, output {result.output}, with {shown(result.hyperparameters)}",
        f"The first epoch took {result.first_epoch_s:.2f} s, the next one {result.epoch_s:.3f} s.",
        f"{result.approach.capitalize()}: {result.reason}",
    ]
