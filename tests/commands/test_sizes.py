"""What this machine cannot hold is refused before a run, with what would fit."""

import dataclasses
import re
from typing import Any

import pytest

from caviar.commands.sizing import check_sizes, threads_for
from caviar.data.dataset import DatasetFacts
from caviar.errors import SpecError
from caviar.spec import StudySpec, parse_spec

GIGABYTE = 10**9
FACTS = DatasetFacts(
    name="toy",
    n_train=1000,
    n_validation=200,
    majority=0.1,
    entropy=2.3,
    recall_weights=0.02,
    n_classes=10,
    feature_shape=(64,),
    fingerprint="",
)


def make_spec(*, space: Any = None, **search: Any) -> StudySpec:
    drawn = space or {"units": {"low": 8, "high": 256}, "depth": {"low": 1, "high": 4}}
    return parse_spec({"name": "toy", "data": {"dataset": "digits"}, "search": search, "space": drawn})


def test_an_ordinary_study_fits() -> None:
    check_sizes(make_spec(), FACTS, memory_bytes=GIGABYTE)
    check_sizes(make_spec(), memory_bytes=GIGABYTE)


def test_more_workers_than_the_memory_holds_are_refused() -> None:
    with pytest.raises(SpecError, match=r"search.workers is 900, but .*: at most 31 fit here"):
        check_sizes(make_spec(workers=900), memory_bytes=10 * GIGABYTE)
    check_sizes(make_spec(workers=31), FACTS, memory_bytes=10 * GIGABYTE)


def test_a_cluster_is_not_held_to_this_machines_memory_and_cores() -> None:
    spec = make_spec(workers=900)
    on_ray = dataclasses.replace(spec.search, engine="ray", cpus_per_worker=6.5, trainer="solo")
    spec = dataclasses.replace(spec, search=on_ray)
    check_sizes(spec, FACTS, memory_bytes=GIGABYTE)
    assert threads_for(spec, n_workers=900) == 6


@pytest.mark.parametrize("facts", [None, FACTS])
def test_the_units_that_would_fit_are_named_and_fit(facts: DatasetFacts | None) -> None:
    space = {"units": {"low": 8, "high": 1_000_000}, "depth": {"low": 1, "high": 4}}
    with pytest.raises(SpecError, match="Lower units to") as refused:
        check_sizes(make_spec(space=space), facts, memory_bytes=4 * GIGABYTE)
    found = re.search(r"units to (\d+)", str(refused.value))
    assert found is not None
    widest = int(found[1])
    assert 1_000 < widest < 100_000
    for high, fits in ((widest, True), (widest + 1, False)):
        changed = make_spec(space={**space, "units": {"low": 8, "high": high}})
        if fits:
            check_sizes(changed, facts, memory_bytes=4 * GIGABYTE)
        else:
            with pytest.raises(SpecError, match="largest network"):
                check_sizes(changed, facts, memory_bytes=4 * GIGABYTE)


def test_networks_of_the_users_own_are_not_judged() -> None:
    spec = make_spec(space={"units": 1_000_000, "learning_rate": {"low": 0.1, "high": 0.2}})
    own = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, network="toy:network"))
    with pytest.raises(SpecError, match="1000000 units"):
        check_sizes(spec, FACTS, memory_bytes=1000)
    check_sizes(own, FACTS, memory_bytes=1000)


BIG = 10**12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"epochs": BIG}}, "objective.epochs must be at most 1000000, but got"),
        ({"search": {"trials": BIG}}, "search.trials must be at most 1000000"),
        ({"search": {"workers": BIG}}, "search.workers must be at most 1000"),
        ({"search": {"retries": BIG}}, "search.retries must be at most 1000"),
        ({"search": {"lease_s": 1e300}}, "search.lease_s must be at most 1000000000"),
        ({"search": {"checkpoint_s": float("inf")}}, "search.checkpoint_s must be at most"),
        ({"search": {"timeout_s": 10**400}}, "search.timeout_s must be at most"),
        ({"data": {"dataset": "digits", "validation_fraction": 10**400}}, "validation_fraction must be at most"),
        ({"space": {"depth": {"low": 1, "high": 10_000}}}, "depth must be at most 200, but got 10000"),
        ({"space": {"units": {"low": 1, "high": BIG}}}, "units must be at most 1000000"),
        ({"space": {"units": [BIG], "learning_rate": {"low": 0.1, "high": 0.2}}}, "units must be at most"),
        ({"space": {"batch_size": {"low": 1, "high": BIG}}}, "batch_size must be at most 1000000000"),
        ({"space": {"batch_size": {"low": 1, "high": 10**400}}}, "batch_size must lie between"),
        ({"space": {"learning_rate": {"low": 0.1, "high": 10**400}}}, "learning_rate must lie between"),
        ({"space": {"learning_rate": {"low": 0.1, "high": float("inf")}}}, "learning_rate must be finite"),
        ({"space": {"learning_rate": {"low": float("nan"), "high": 0.2}}}, "learning_rate must be finite"),
        ({"space": {"l2": float("nan")}}, "l2 must be finite"),
        ({"space": {"units": {"choices": list(range(1, 2000))}}}, "units has 1999 choices, but at most 1000"),
    ],
)
def test_sizes_without_bound_are_refused_when_the_study_file_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec({"name": "toy", "data": {"dataset": "digits"}, **changes})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"low": 0, "high": 10**400}, "filters must lie between"),
        ({"low": -1.7e308, "high": 1.7e308}, "too wide for a float"),
        ({"choices": [1.0, float("nan")]}, "filters must be finite"),
        (float("inf"), "filters must be finite"),
    ],
)
def test_a_parameter_of_the_users_own_has_bounds_too(entry: Any, message: str) -> None:
    table = {"name": "toy", "data": {"dataset": "digits"}, "objective": {"network": "toy:network"}}
    with pytest.raises(SpecError, match=message):
        parse_spec({**table, "space": {"filters": entry}})
