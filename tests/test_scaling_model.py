"""The model of benchmarks/scaling.py: what is known in closed form, and the paper against the simulation."""

import dataclasses
import math
from collections.abc import Generator

import pytest
from benchmarks.fleets.model import (
    KINDS,
    Cost,
    Fleet,
    Line,
    approximate_mean_values,
    bound,
    mean_values,
    most_workers,
    solve,
    transactions,
)
from benchmarks.fleets.simulation import Simulation, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

#: Like what was measured, rounded: milliseconds a transaction, microseconds a trial.
COSTS = {
    kind: Cost(server=Line(2e-3, finished=2e-7, running=1e-4 if kind == "read" else 0.0), worker=Line(3e-3), trips=10)
    for kind in KINDS
}
FLEET = Fleet(workers=16, training_s=1.0)
seconds = st.floats(1e-3, 10.0)


@settings(max_examples=50)
@given(n=st.integers(1, 40), think_s=seconds, demand_s=seconds)
def test_mean_values_of_one_station_are_those_of_the_machine_repairman(n: int, think_s: float, demand_s: float) -> None:
    weights = [math.perm(n, k) * (demand_s / think_s) ** k for k in range(n + 1)]  # M/M/1//N: of k in the station
    busy = 1 - weights[0] / sum(weights)
    rate, (time,) = mean_values(n, think_s, [demand_s])
    assert rate == pytest.approx(busy / demand_s)
    assert time == pytest.approx(n / rate - think_s)  # Little's law


@settings(max_examples=50)
@given(n=st.integers(1, 60), think_s=seconds, demands=st.lists(seconds, min_size=1, max_size=3))
def test_no_network_exceeds_its_bounds_and_one_customer_never_waits(
    n: int, think_s: float, demands: list[float]
) -> None:
    rate, _ = mean_values(n, think_s, demands)
    assert rate <= bound(n, think_s, demands) * (1 + 1e-9)
    assert mean_values(1, think_s, demands)[0] == pytest.approx(1 / (think_s + sum(demands)))


def test_mean_values_approach_the_slowest_station() -> None:
    assert mean_values(5_000, 1.0, [0.01, 0.002])[0] == pytest.approx(100, rel=1e-3)
    assert mean_values(5_000, 1.0, [0.01], copies=[4])[0] == pytest.approx(400, rel=1e-3)


@pytest.mark.parametrize("think_s", [1.0, 5.0, 50.0])
def test_the_approximation_for_many_workers_is_close(think_s: float) -> None:
    demands, copies = [0.01, 0.008], [1, 4]
    exact, _ = mean_values(500, think_s, demands, copies=copies)
    assert approximate_mean_values(500, think_s, demands, copies=copies)[0] == pytest.approx(exact, rel=0.03)


def test_a_worker_writes_once_a_second_and_at_most_once_an_epoch() -> None:
    assert transactions(dataclasses.replace(FLEET, training_s=0.1))["report"] == 0
    assert transactions(dataclasses.replace(FLEET, training_s=10.0))["report"] == pytest.approx(9)
    assert transactions(dataclasses.replace(FLEET, training_s=1000.0))["report"] == 19


@pytest.mark.parametrize(
    "fleet",
    [
        Fleet(workers=4, training_s=2.0),
        Fleet(workers=60, training_s=1.0),
        Fleet(workers=40, training_s=20.0, finished=10_000),
        Fleet(workers=100, training_s=0.2, claim=16),
        Fleet(workers=100, training_s=2.0, shards=5),
    ],
)
def test_the_simulation_agrees_with_the_paper(fleet: Fleet) -> None:
    paper, (played, _) = solve(fleet, COSTS), simulate(fleet, COSTS, trials=200)
    assert played.rate == pytest.approx(paper.rate, rel=0.1)
    assert played.server == pytest.approx(paper.server, abs=0.1)


def test_claims_one_after_the_other_limit_a_study_and_shards_lift_that() -> None:
    slow = {**COSTS, "claim": Cost(server=Line(0.1), worker=Line(0.0), trips=0)}
    fleet = Fleet(workers=60, training_s=1.0, cores=64)
    assert solve(fleet, slow).rate == pytest.approx(10, rel=0.05)
    assert simulate(fleet, slow, trials=200)[0].rate == pytest.approx(10, rel=0.1)
    assert solve(dataclasses.replace(fleet, shards=4), slow).rate > 30
    assert solve(dataclasses.replace(fleet, claim=8), slow).rate > 40


def test_a_server_is_shared_equally_and_a_lock_is_given_in_turn() -> None:
    ended = []

    def use(name: str, seconds: float) -> Generator[tuple[str, float], None, None]:
        yield "lock", 0
        yield "use", seconds
        yield "free", 0
        yield "use", seconds
        ended.append((name, round(simulation.now_s, 6)))

    simulation = Simulation(cores=1, locks=1)
    for name, work in (("first", 1.0), ("second", 2.0)):
        simulation.start(use(name, work))
    simulation.run(until=lambda: False)
    # The first is served alone for 1 s, then beside the second's 2 s under the lock; both get half.
    assert ended == [("first", 3.0), ("second", 6.0)]
    assert (simulation.used_s, simulation.held_s) == pytest.approx((6.0, 4.0))


def test_more_workers_than_the_bend_lose_efficiency() -> None:
    bend = most_workers(FLEET, COSTS)
    assert solve(dataclasses.replace(FLEET, workers=bend), COSTS).efficiency >= 0.8
    assert solve(dataclasses.replace(FLEET, workers=2 * bend), COSTS).efficiency < 0.8
