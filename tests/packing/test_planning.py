"""The next fleets of what a worker has in hand."""

import dataclasses

import pytest

from caviar.config import NetworkConfig, TrainingConfig
from caviar.packing import planning
from caviar.packing.cost_model import TYPICAL, DataShape, LaneShape
from caviar.packing.packing import Packer
from caviar.packing.planning import MOST_IN_HAND, FleetPlan, SoloPlan

PACKER = Packer(
    cost=TYPICAL,
    data=DataShape(n_train=1149, n_validation=288, n_features=64, n_classes=10),
    memory_bytes=1 << 32,
    deepest=4,
)


@dataclasses.dataclass(frozen=True)
class Trial:
    number: int
    shape: LaneShape
    epochs: int = 0


def trials(n: int, *, units: int = 16, epochs: int = 0, start: int = 0) -> list[Trial]:
    network, training = NetworkConfig(depth=2, units=units), TrainingConfig(epochs=20)
    shape = LaneShape(network=network, training=training)
    return [Trial(number, shape, epochs) for number in range(start, start + n)]


def test_those_that_have_trained_least_are_planned_in_the_order_in_which_they_wait() -> None:
    wide, narrow = trials(2, units=256), trials(4, start=2)
    new, begun = [wide[0], *narrow, wide[1]], trials(2, epochs=5, start=6)
    fleets, regroups = FleetPlan(PACKER).fleets([*begun, *new])
    assert fleets == [wide, narrow]
    assert regroups


@pytest.mark.parametrize("why", ["dear", "large"])
def test_dear_or_large_fleets_are_planned_one_at_a_time_and_refilled(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = trials(4, units=256) + trials(4, start=4)
    packer = PACKER
    if why == "dear":
        monkeypatch.setattr(planning, "REGROUP_S", 0.0)
    else:
        packer = dataclasses.replace(PACKER, memory_bytes=1)
    plan = FleetPlan(packer)
    fleets, regroups = plan.fleets(waiting)
    assert (len(fleets), regroups) == (1, False)
    joining = plan.refill(waiting[:1], waiting[1:], n_lanes=3)
    assert joining == (waiting[1:3] if why == "dear" else [])


def test_a_plan_knows_what_is_left_of_a_fleet_and_its_arithmetic() -> None:
    plan, fleet = FleetPlan(PACKER), [*trials(1), *trials(1, units=8, epochs=10)]
    epoch_s = TYPICAL.epoch_s([trial.shape for trial in fleet], PACKER.data)
    assert plan.training_s(fleet) == pytest.approx(20 * epoch_s)
    assert plan.training_s(fleet[1:]) < plan.training_s(fleet)
    flop, padded = plan.flop(fleet)
    assert 0 < flop < padded
    assert plan.most_in_hand == MOST_IN_HAND


def test_alone_each_is_a_fleet_of_its_own() -> None:
    waiting = trials(3)
    plan = SoloPlan()
    assert plan.fleets(waiting) == ([[trial] for trial in waiting], False)
    assert plan.refill(waiting[:1], waiting[1:], n_lanes=2) == []
    assert plan.most_in_hand == 1
