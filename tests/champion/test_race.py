import numpy as np
import pytest

from caviar.champion.race import CAPS, mean_interval, share_interval, standings


def race(*, truth: list[float], budget: int, noise: float, seed: int) -> tuple[int, int]:
    """Run a race on simulated values; return its winner and what it took."""
    generator = np.random.default_rng(seed)
    rounds: list[dict[int, float]] = []
    while True:
        standing = standings(rounds, n_candidates=len(truth), budget=budget, maximize=True)
        if standing.is_over:
            return standing.alive[0], sum(map(len, rounds))
        shared = generator.normal(0, noise)
        rounds.append({c: truth[c] + shared + generator.normal(0, noise) for c in standing.alive})


def test_who_is_far_behind_leaves_after_two_rounds() -> None:
    rounds = [{0: 0.9, 1: 0.5, 2: 0.89}, {0: 0.91, 1: 0.5, 2: 0.91}]
    assert standings(rounds, n_candidates=3, budget=15, maximize=True).alive == (0, 2)
    losses = [{c: 1 - value for c, value in each.items()} for each in rounds]
    assert standings(losses, n_candidates=3, budget=15, maximize=False).alive == (0, 2)


def test_what_a_round_has_in_common_cancels_out() -> None:
    easy, hard = {0: 0.9, 1: 0.89, 2: 0.6}, {0: 0.5, 1: 0.5, 2: 0.2}
    assert standings([easy, hard], n_candidates=3, budget=15, maximize=True).alive == (0, 1)


def test_the_budget_is_kept_and_the_caps_hold() -> None:
    for seed in range(20):
        _, n = race(truth=[0.0] * 5, budget=25, noise=1.0, seed=seed)
        assert n <= 25
    rounds: list[dict[int, float]] = []
    generator = np.random.default_rng(0)
    sizes = []
    while not (standing := standings(rounds, n_candidates=10, budget=50, maximize=True)).is_over:
        sizes.append(len(standing.alive))
        rounds.append({c: generator.normal() for c in standing.alive})
    assert sizes[2] <= round(CAPS[2] * 10)
    assert all(size <= round(CAPS[5] * 10) for size in sizes[5:])


def test_one_candidate_needs_no_race() -> None:
    assert standings([], n_candidates=1, budget=5, maximize=True) == ((0,), 0, True)


def test_equal_values_end_with_the_searchs_best() -> None:
    winner, _ = race(truth=[0.5] * 4, budget=20, noise=0.0, seed=0)
    assert winner == 0


@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_the_race_finds_the_best_more_often_than_equal_shares_do(spread: float) -> None:
    generator = np.random.default_rng(1)
    raced = shared = 0
    for number in range(400):
        truth = sorted(generator.normal(0, spread, 5).tolist(), key=lambda _: generator.random())
        best = int(np.argmax(truth))
        raced += race(truth=truth, budget=25, noise=0.7, seed=number)[0] == best
        means = np.array(truth) + generator.normal(0, 0.7, (5, 5)).mean(axis=0)
        shared += int(means.argmax()) == best
    assert raced > shared - 10  # measured over 10,000 repetitions in benchmarks/champion.py


def test_intervals_cover_the_truth_at_their_rate() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(0.9, 0.01, (2000, 5))
    intervals = [mean_interval(row.tolist()) for row in values]
    assert 0.935 < np.mean([low <= 0.9 <= high for _, low, high in intervals]) < 0.965
    right = generator.binomial(200, 0.97, 2000)
    shares = [share_interval(int(n), 200) for n in right]
    assert 0.93 < np.mean([low <= 0.97 <= high for _, low, high in shares]) < 0.98
    assert share_interval(10, 10).high == pytest.approx(1.0)
    assert share_interval(0, 10).low == 0.0


def test_no_interval_of_an_accuracy_goes_beyond_one() -> None:
    assert mean_interval([0.99, 0.95], low=0.0, high=1.0).high == 1.0
    assert mean_interval([0.99, 0.95]).high > 1.0
