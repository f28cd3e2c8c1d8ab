"""Which trials share a fleet: pure decisions from a cost model."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.config import CHOICES, NetworkConfig, TrainingConfig
from caviar.packing.cost_model import TYPICAL, CostModel, DataShape, LaneRow, LaneShape
from caviar.packing.packing import MAX_LANES, Packer, cheapest_cuts, describe_plan, fleet_bytes
from caviar.program_key import ProgramKey

EPOCHS = 20
DIGITS = DataShape(n_train=1149, n_validation=288, n_features=64, n_classes=10)
PACKER = Packer(cost=TYPICAL, data=DIGITS, memory_bytes=1 << 32)


def lane(units: int = 32, depth: int = 2, batch_size: int = 64, **network: object) -> LaneShape:
    return LaneShape(
        network=NetworkConfig(depth=depth, units=units, **network),  # type: ignore[arg-type]  # passed on as given
        training=TrainingConfig(epochs=EPOCHS, batch_size=batch_size),
    )


LANES = st.builds(
    lane,
    units=st.integers(16, 256),
    depth=st.integers(1, 4),
    batch_size=st.sampled_from([32, 64, 128]),
    batch_norm=st.sampled_from(CHOICES["batch_norm"]),
)


@settings(max_examples=25, deadline=None)
@given(lanes=st.lists(LANES, min_size=1, max_size=24))
def test_plan_places_every_lane_once_and_keeps_kinds_apart(lanes: list[LaneShape]) -> None:
    plan = PACKER.plan(lanes)
    assert sorted(itertools.chain.from_iterable(plan)) == list(range(len(lanes)))
    for fleet in plan:
        assert len({lanes[place].kind for place in fleet}) == 1


@settings(max_examples=25, deadline=None)
@given(lanes=st.lists(LANES, min_size=1, max_size=24))
def test_plan_costs_no_more_than_each_alone_or_all_of_a_kind_together(lanes: list[LaneShape]) -> None:
    def cost(plan: list[list[int]]) -> float:
        return sum(TYPICAL.epoch_s([lanes[place] for place in fleet], DIGITS) for fleet in plan)

    kinds: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(lanes):
        kinds.setdefault(one.kind, []).append(place)
    others = [[[place] for place in range(len(lanes))], list(kinds.values())]
    traced = {PACKER.program_key([lanes[place] for place in fleet]) for plan in others for fleet in plan}
    planned = cost(PACKER.plan(lanes, traced=traced))
    assert all(planned <= cost(plan) * (1 + 1e-9) for plan in others)


def test_alike_lanes_train_together_and_wide_ones_are_not_padded_for() -> None:
    lanes = [lane(units=units) for units in (16, 256, 16, 16, 256, 16, 16, 256, 16)]
    assert sorted(map(sorted, PACKER.plan(lanes))) == [[0, 2, 3, 5, 6, 8], [1, 4, 7]]


def test_a_new_program_is_traced_only_where_it_saves_more_than_its_trace_costs() -> None:
    small, large = [lane(batch_size=16, units=64)] * 4, [lane(batch_size=128, units=64)] * 4
    alike, unlike = PACKER.program_key(small), PACKER.program_key([*small, *large])
    assert alike == PACKER.program_key(large) != unlike

    def n_fleets(*, trace_s: float, epochs: int = EPOCHS, traced: ProgramKey) -> int:
        training = [dataclasses.replace(one.training, epochs=epochs) for one in (*small, *large)]
        lanes = [dataclasses.replace(one, training=new) for one, new in zip((*small, *large), training, strict=True)]
        packer = dataclasses.replace(PACKER, cost=dataclasses.replace(TYPICAL, trace_s=trace_s))
        return len(packer.plan(lanes, traced={traced}))

    assert n_fleets(trace_s=100.0, traced=unlike) == 1
    assert n_fleets(trace_s=100.0, traced=alike) == 2
    assert n_fleets(trace_s=0.0, traced=unlike) == 2  # padding costs more than two fleets
    assert n_fleets(trace_s=100.0, epochs=10**6, traced=unlike) == 2


def test_a_program_that_one_fleet_traces_costs_the_others_nothing() -> None:
    dear = dataclasses.replace(PACKER, cost=dataclasses.replace(TYPICAL, trace_s=100.0))
    assert sorted(map(sorted, dear.plan([lane(units=16)] * 6 + [lane(units=256)] * 3))) == [[*range(6)], [6, 7, 8]]


def test_fleets_stay_within_memory_and_the_largest_number_of_lanes() -> None:
    lanes = [lane(units=200)] * 10
    tight = dataclasses.replace(PACKER, memory_bytes=fleet_bytes(lanes[:3], DIGITS))
    assert max(len(fleet) for fleet in tight.plan(lanes)) <= 3
    assert [len(fleet) for fleet in dataclasses.replace(PACKER, memory_bytes=1).plan(lanes)] == [1] * 10
    assert max(len(fleet) for fleet in PACKER.plan([lane(units=16)] * 100)) <= MAX_LANES


def test_refill_takes_the_nearest_that_pay_up_to_the_planned_size() -> None:
    running = [lane(units=32)] * 3
    waiting = [lane(units=256, depth=4), lane(units=30), lane(units=33), lane(units=40, batch_norm="before_activation")]
    assert PACKER.refill(running, waiting, n_lanes=4) == [2]
    assert PACKER.refill(running, waiting, n_lanes=8) == [2, 1]
    assert PACKER.refill(running, [], n_lanes=8) == []


@given(costs=st.lists(st.floats(0, 10), min_size=15, max_size=15))
def test_cuts_are_the_cheapest_of_all(costs: list[float]) -> None:
    pieces = list(itertools.combinations(range(6), 2))
    price = dict(zip(pieces, costs, strict=True))
    found = cheapest_cuts(5, lambda start, end: price[start, end], longest=5)
    ways = [
        list(itertools.pairwise((0, *inner, 5)))
        for size in range(5)
        for inner in itertools.combinations(range(1, 5), size)
    ]
    assert found in ways
    assert sum(price[piece] for piece in found) == pytest.approx(min(sum(price[p] for p in way) for way in ways))


@given(lanes=st.lists(LANES, min_size=1, max_size=6), other=LANES)
def test_one_more_lane_is_never_less_work(lanes: list[LaneShape], other: LaneShape) -> None:
    fleet = [dataclasses.replace(one, network=dataclasses.replace(one.network, batch_norm="none")) for one in lanes]
    joined = dataclasses.replace(other, network=dataclasses.replace(other.network, batch_norm="none"))
    less, more = LaneRow.of([*fleet, joined], DIGITS).work(cache_bytes=1 << 25)[-2:]
    assert (more >= less * (1 - 1e-9)).all()


def test_padded_arithmetic_of_one_lane_is_its_own() -> None:
    for one in (lane(units=50, depth=3), lane(depth=1, batch_size=32)):
        assert LaneRow.of([one], DIGITS).training_flop() == pytest.approx(one.flop(DIGITS))


def test_plan_is_told_in_words() -> None:
    lanes = [lane(units=16), lane(units=20, depth=3)]
    lines = describe_plan([[0, 1]], lanes, PACKER)
    assert lines[0].startswith(
        "fleet 1: 2 lanes of relu, batch_norm none, sgd; batch 64, depth 2–3, units 16–20; about "
    )


def test_prices_are_kept_and_a_broken_file_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    assert CostModel.load(path) is None
    TYPICAL.save(path)
    assert CostModel.load(path) == TYPICAL
    path.write_text(json.dumps({"prices": [1.0], "trace_s": 1, "cache_bytes": 1}), encoding="utf-8")
    assert CostModel.load(path) is None
    path.write_text("{", encoding="utf-8")
    assert CostModel.load(path) is None
