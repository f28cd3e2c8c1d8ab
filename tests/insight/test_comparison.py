"""Searches compared at equal cost: what is counted, and what is said of it."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caviar.insight.comparison import (
    PaidTrial,
    Search,
    best_so_far,
    distinct_values,
    most_important,
    paired_test,
    repeats_needed,
    smallest_p,
    spread,
    within_budget,
)
from caviar.insight.comparison_report import Comparison, build_comparison, comparison_lines, render_comparison
from caviar.insight.page import as_json
from caviar.insight.rows import drawn_parameters

from .synthetic import NOW, make_spec
from .test_report import Page

paid_trials = st.lists(
    st.builds(
        PaidTrial,
        epochs=st.integers(0, 20),
        value=st.none() | st.floats(0, 1),
        hyperparameters=st.fixed_dictionaries({"a": st.integers(0, 3)}),
    ),
    max_size=30,
)
values = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=6, max_size=7)


def paid(*pairs: tuple[int, float | None]) -> list[PaidTrial]:
    return [PaidTrial(epochs=epochs, value=value, hyperparameters={}) for epochs, value in pairs]


def test_a_trial_counts_from_its_end_and_costs_its_epochs_though_pruned() -> None:
    curve = best_so_far(paid((4, 0.5), (2, None), (4, 0.4), (4, 0.9)), budget_epochs=14, maximize=True)
    assert (curve.epochs, curve.values, curve.final) == ((4, 14), (0.5, 0.9), 0.9)
    assert math.isnan(curve.at(3))
    assert [curve.at(at) for at in (4, 13.9, 14, 99)] == [0.5, 0.5, 0.9, 0.9]
    assert best_so_far(paid((4, 0.5), (2, None), (4, 0.4)), budget_epochs=10, maximize=False).values == (0.5, 0.4)


def test_what_ends_beyond_the_budget_does_not_count() -> None:
    assert best_so_far(paid((4, 0.5), (4, 0.9)), budget_epochs=7, maximize=True).final == 0.5
    assert (
        best_so_far(
            paid(
                (8, 0.5),
            ),
            budget_epochs=7,
            maximize=True,
        ).final
        is None
    )


@settings(deadline=None, max_examples=30)
@given(paid_trials, st.integers(1, 200), st.booleans())
def test_the_best_so_far_only_improves_and_ends_at_the_best_within_the_budget(
    trials: list[PaidTrial], budget: int, maximize: bool
) -> None:
    curve = best_so_far(trials, budget_epochs=budget, maximize=maximize)
    kept = within_budget(trials, budget)
    assert sum(trial.epochs for trial in kept) <= budget
    assert list(curve.epochs) == sorted(set(curve.epochs))
    assert all((b > a) if maximize else (b < a) for a, b in itertools.pairwise(curve.values))
    found = [trial.value for trial in kept if trial.value is not None]
    assert curve.final == ((max if maximize else min)(found) if found else None)


@settings(deadline=None, max_examples=30)
@given(st.lists(paid_trials, min_size=1, max_size=5), st.integers(1, 200))
def test_the_median_lies_between_the_quartiles_from_where_all_repeats_have_a_value(
    repeats: list[list[PaidTrial]], budget: int
) -> None:
    curves = [best_so_far(trials, budget_epochs=budget, maximize=True) for trials in repeats]
    band = spread(curves, budget_epochs=budget)
    if band is None:
        assert any(curve.final is None for curve in curves)
        return
    assert band["epochs"][0] == max(curve.epochs[0] for curve in curves)
    assert band["epochs"][-1] == budget
    assert all(low <= mid <= high for low, mid, high in zip(band["low"], band["median"], band["high"], strict=True))
    finals = sorted(curve.final or 0 for curve in curves)
    assert finals[0] <= band["median"][-1] <= finals[-1]


def test_a_long_search_is_read_off_at_a_bounded_number_of_points() -> None:
    curves = [
        best_so_far(paid(*((1, n / 1000) for n in range(1000))), budget_epochs=1000, maximize=True) for _ in range(2)
    ]
    band = spread(curves, budget_epochs=1000)
    assert band is not None
    assert len(band["epochs"]) <= 201
    assert band["median"][-1] == 0.999


@settings(deadline=None, max_examples=10)
@given(values, st.data())
def test_the_paired_test_is_the_same_from_both_sides(finals: list[float], data: st.DataObject) -> None:
    size = len(finals)
    against = data.draw(st.lists(st.sampled_from([n / 20 for n in range(21)]), min_size=size, max_size=size))
    one, other = (paired_test(a, b, maximize=True) for a, b in ((finals, against), (against, finals)))
    assert (one.wins, one.losses, one.n) == (other.losses, other.wins, size)
    assert one.p is not None
    assert one.p == pytest.approx(other.p)
    assert smallest_p(size) - 1e-12 <= one.p <= 1
    assert paired_test(finals, against, maximize=False).wins == one.losses


def test_all_of_six_won_is_the_least_that_shows_a_difference() -> None:
    better, worse = [0.9] * 6, [0.8, 0.81, 0.82, 0.83, 0.84, 0.85]
    assert repeats_needed() == 6
    assert paired_test(better, worse, maximize=True).p == pytest.approx(2 / 64)
    assert paired_test(better[:5], worse[:5], maximize=True).p is None
    assert paired_test(better, better, maximize=True).p == 1.0
    assert paired_test([*better, None], [*worse, 0.5], maximize=True).n == 6


def test_the_documented_p_values_are_two_sided_as_ours_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
    won = set(re.findall(r"34 of 34, (\S+?)[ ,|]", page))  # every pair won: only the least p can be
    assert won == {f"{smallest_p(34):.0e}"}
    assert "two-sided p" in page


def test_many_repeats_take_the_asymptotic_test() -> None:
    test = paired_test([0.9 + n / 1000 for n in range(20)], [0.8] * 20, maximize=True)
    assert test.p is not None
    assert test.p < 0.001


def grid_and_random() -> list[Search]:
    """Return six repeats of 25 trials: a 5 × 5 grid and as many random points, the latter better."""
    rng = np.random.default_rng(0)
    searches = []
    for repeat in range(6):
        places = list(itertools.product(np.logspace(-3.5, -0.5, 5).tolist(), (0.6, 0.7, 0.8, 0.9, 0.99)))
        drawn = [(float(10 ** rng.uniform(-3, -1)), float(rng.uniform(0.6, 0.99))) for _ in range(25)]
        for sampler, points, gain in (("grid", places, 0.0), ("random", drawn, 0.05)):
            trials = tuple(
                PaidTrial(
                    epochs=10,
                    value=0.8 + gain - 0.01 * abs(math.log10(rate) + 2) - repeat / 1000,
                    hyperparameters={"learning_rate": rate, "momentum": momentum, "depth": 1, "batch_norm": "none"},
                )
                for rate, momentum in points
            )
            searches.append(Search(sampler=sampler, repeat=repeat, study=f"{sampler}-{repeat}", trials=trials))
    return searches


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return build_comparison(make_spec(), grid_and_random(), budget_epochs=250, data="toy & more", now=NOW)


def test_twenty_five_trials_of_a_grid_try_five_values_of_each_and_random_ones_twenty_five(
    comparison: Comparison,
) -> None:
    grid, random = comparison.samplers
    assert (grid["sampler"], random["sampler"], comparison.baseline) == ("grid", "random", "random")
    assert [grid["distinct"][name] for name in comparison.important] == [5, 5]
    assert [random["distinct"][name] for name in comparison.important] == [25, 25]
    assert list(comparison.important) == ["learning_rate", "momentum"]
    assert (
        "The grid tried 5 values of learning_rate and 5 values of momentum in 25 trials, random search 25 and 25 in 25."
        in comparison.sentences
    )


def test_a_difference_is_said_only_where_the_test_shows_it(comparison: Comparison) -> None:
    grid = comparison.samplers[0]
    assert (grid["wins"], grid["losses"], grid["pairs"], grid["p"]) == (0, 6, 6, pytest.approx(2 / 64))
    assert "grid is worse than random, p = 0.031." in comparison.sentences
    few = build_comparison(
        make_spec(), [s for s in grid_and_random() if s.repeat < 2], budget_epochs=250, data="toy", now=NOW
    )
    assert any("2 repeats cannot show a difference" in sentence for sentence in few.sentences)
    assert few.samplers[0]["p"] is None


def test_lines_page_and_json_say_the_same(comparison: Comparison) -> None:
    lines = comparison_lines(comparison)
    assert lines[0] == "toy: best val_accuracy after 250 epochs, 6 repeats"
    assert any(line.startswith("grid ") and "0 of 6" in line and "0.031" in line for line in lines)
    table = json.loads(as_json(comparison))
    assert set(table["figures"]) == {"curves", "finals", "coverage"}
    page = Page(render_comparison(comparison))
    assert page.sections == ["result", "curves", "finals", "coverage"]
    assert page.figures == ["curves", "finals", "coverage"]
    assert "toy & more" in page.text
    assert all(address.startswith("#") for address in page.addresses)


def test_an_axis_of_searches_that_end_close_together_still_has_ticks() -> None:
    searches = [
        Search(sampler=name, repeat=0, study=name, trials=tuple(paid((10, value))))
        for name, value in (("random", 0.9634), ("tpe", 0.9671))
    ]
    comparison = build_comparison(make_spec(), searches, budget_epochs=10, data="toy", now=NOW)
    ticks = comparison.figures["finals"]["layout"]["xaxis"]["ticktext"]
    assert ticks == ["0.964", "0.965", "0.966", "0.967"]


def test_searches_without_a_complete_trial_are_shown_and_not_counted() -> None:
    nothing = [Search(sampler=name, repeat=0, study=name, trials=tuple(paid((3, None)))) for name in ("tpe", "qmc")]
    comparison = build_comparison(make_spec(), nothing, budget_epochs=10, data="toy", now=NOW)
    assert comparison.baseline == "tpe"
    assert comparison.samplers[1]["median"] is None
    assert comparison.samplers[1]["pairs"] == 0
    assert comparison.figures == {}
    assert "No trial was completed." in Page(render_comparison(comparison)).text
    as_json(comparison)
    assert any(line.startswith("qmc") for line in comparison_lines(comparison))


def test_the_picture_is_of_the_two_ranges_that_the_course_ranks_first() -> None:
    space = {
        "depth": {"low": 1, "high": 4},
        "batch_size": {"choices": [32, 64]},
        "units": {"low": 8, "high": 64},
        "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
    }
    ranked = most_important(drawn_parameters(make_spec(space=space).space))
    assert [parameter.name for parameter in ranked] == ["learning_rate", "units"]
    trials = [PaidTrial(epochs=1, value=None, hyperparameters={"units": units}) for units in (8, 8, 9)]
    assert distinct_values(trials, ["units", "depth"]) == {"units": 2, "depth": 0}
