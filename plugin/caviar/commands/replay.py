"""Replaying a trial: trains it again from its seeds, changes what was changed by hand, and compares."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..engines.work import open_objective, prepare_devices
from ..errors import SpecError
from ..interventions import Intervention, curves_of, interventions_of
from ..search.sequences import origin_of
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..worker.objective import KerasObjective
from ..worker.trainers import FleetTrainers, SoloTrainers
from ..worker.trial_run import worst_case
from .control import find_trial
from .sizing import threads_for

#: Float rounding alone makes no larger difference between two trainings of one program.
TOLERANCE: Final = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """A trial that was trained again.

    Attributes:
        study: The study's name.
        trial: The trial's number.
        interventions: What was changed by hand, and was changed again.
        recorded: Each metric by epoch, as the trial stored it.
        replayed: The same, as trained now.
        difference: The largest difference between the two, over all metrics and epochs.
    """

    study: str
    trial: int
    interventions: Sequence[Intervention]
    recorded: Mapping[str, Sequence[float]]
    replayed: Mapping[str, Sequence[float]]
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the curves are the same up to float rounding."""
        return self.difference <= TOLERANCE


def replay_trial(home: Home, study: str, number: int) -> Replay:
    """Train a trial again in one lane, as its study would, and change again what was changed by hand, when it was.

    Nothing is written. A trial that trained in a fleet beside others may differ by float rounding that grows with the
    epochs; one that trained alone does not.

    Args:
        home: Where the study lives.
        study: Its name or its file.
        number: The trial's number.

    Raises:
        SpecError: If there is no such trial, it stored no epoch, or this machine has other data.
    """
    _, opened = open_existing(home, study)
    spec = required_spec(opened)
    trial = find_trial(opened, number)
    recorded = curves_of(trial, spec.objective.metric)
    n_epochs = len(recorded[spec.objective.metric])
    if not n_epochs:
        raise SpecError(f"Trial {number} has no epoch yet, so there is nothing to replay.")
    interventions = interventions_of(trial.user_attrs)
    prepare_devices(threads=threads_for(spec, n_workers=spec.search.workers))
    objective = open_objective(spec, opened, dataset=None)
    lane = objective.draw(trial, origin=origin_of(trial))
    trainers = FleetTrainers(objective.programs) if spec.trains_in_fleets else SoloTrainers(objective)
    due, trained = list(interventions), 0
    returns = {int(one.new or 0) for one in interventions if one.action == "back"}
    curves: list[dict[str, float]] = []
    states: dict[int, Any] = {}
    with trainers.make([lane]) as trainer:
        while True:
            if len(curves) in returns:
                states[len(curves)] = trainer.lane_state(0)
            while due and due[0].trained <= trained:
                one = due.pop(0)
                if one.action == "set":
                    trainer.set_hyperparameter(0, one.name, one.new)  # type: ignore[arg-type]  # it was one then
                elif one.action == "back":
                    trainer.load_lane_state(0, states[int(one.new or 0)])
                    del curves[int(one.new or 0) :]
            if not due and len(curves) >= n_epochs:
                break
            (metrics,) = trainer.run_epoch()
            curves.append({name: _finite(name, value, objective) for name, value in metrics.items()})
            trained += 1
    replayed = {name: [epoch[name] for epoch in curves] for name in recorded}
    difference = max(abs(a - b) for name in recorded for a, b in zip(recorded[name], replayed[name], strict=True))
    return Replay(
        study=opened.study_name,
        trial=number,
        interventions=interventions,
        recorded=recorded,
        replayed=replayed,
        difference=difference,
    )


def replay_lines(replay: Replay) -> list[str]:
    """Return a replay in words."""
    n_epochs = len(next(iter(replay.replayed.values())))
    verdict = "the same curve" if replay.agrees else "ANOTHER CURVE"
    said = f"Trial {replay.trial} of {replay.study}, {n_epochs} epochs: {verdict}"
    return [*map(str, replay.interventions), f"{said} (largest difference {replay.difference:.1e})."]


def _finite(name: str, value: float, objective: KerasObjective) -> float:
    return value if math.isfinite(value) else worst_case(name, n_classes=objective.dataset.n_classes)
