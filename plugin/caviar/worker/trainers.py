"""The two crews of a study's worker: one trains a trial at a time, the other fleets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from ..packing.cost_model import CostModel, DataShape
from ..packing.packing import Packer
from ..packing.planning import FleetPlan, SoloPlan
from .crew import Crew
from .objective import KerasObjective, LaneSpec

if TYPE_CHECKING:
    from ..training import FleetPrograms, FleetTrainer, SoloTrainer


@final
class SoloTrainers:
    """Makes a trainer for one network, the user's own included; each has a program of its own."""

    def __init__(self, objective: KerasObjective) -> None:
        self._objective = objective
        self._n_made = 0

    def n_programs(self) -> tuple[int, int]:
        """Return how many programs exist, and how many of them were traced here: all."""
        return self._n_made, self._n_made

    def make(self, lanes: Sequence[LaneSpec]) -> "SoloTrainer":
        """Build the lane's network, and return its trainer."""
        (lane,) = lanes
        self._n_made += 1
        return self._objective.make_trainer(lane.hyperparameters, seed=lane.seed)


@final
class FleetTrainers:
    """Makes trainers of many networks, which share the process' programs."""

    def __init__(self, programs: "FleetPrograms") -> None:
        self._programs = programs

    def n_programs(self) -> tuple[int, int]:
        """Return how many programs exist, and how many of them were traced here."""
        return len(self._programs.keys), self._programs.n_traces

    def make(self, lanes: Sequence[LaneSpec]) -> "FleetTrainer":
        """Return a fleet of these lanes."""
        from ..training import FleetTrainer, Lane

        made = [Lane(network=lane.shape.network, training=lane.shape.training, seed=lane.seed) for lane in lanes]
        return FleetTrainer(made, self._programs)


def solo_crew(objective: KerasObjective) -> Crew:
    """Return a crew that trains one trial at a time."""
    return Crew(SoloPlan(), SoloTrainers(objective))


def fleet_crew(objective: KerasObjective, *, cost: CostModel, memory_bytes: int) -> Crew:
    """Return a crew that trains in fleets of at most ``memory_bytes`` each."""
    import keras

    dataset, programs = objective.dataset, objective.programs
    data = DataShape(
        n_train=len(dataset.train.labels),
        n_validation=len(dataset.validation.labels),
        n_features=dataset.train.features[0].size,
        n_classes=dataset.n_classes,
    )
    packer = Packer(
        cost=cost,
        data=data,
        memory_bytes=memory_bytes,
        deepest=objective.space.largest("depth"),
        dtype=keras.config.floatx(),
    )
    return Crew(FleetPlan(packer, traced=programs.keys), FleetTrainers(programs))
