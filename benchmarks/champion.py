"""What a race of a search's best trials gains: under simulated noise, and on real data.

    python benchmarks/champion.py --part simulated [--repetitions 1000]
    python benchmarks/champion.py --part real --data digits [--seeds 10] [--trials 60] [--home DIRECTORY]
    python benchmarks/champion.py --part real --data DIRECTORY/fashion_mnist/3.0.1 --trials 16 --epochs 5 --trainings 3

Simulated: a search of 100 trials sees each once, with noise; its best five race. How often is the truly best of the
five found by the search itself, by equal shares (five trainings of each), and by the race within the same budget? How
often does the interval of five further trainings cover the winner's true value?

Real: for each seed a search, then its champion. The search's best network (saved at its best epoch) and the champion
are both tested on the test split here; the optimism of a value is how much higher it is than test accuracy.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
from scipy import stats

from caviar.champion.race import mean_interval, standings

N_SEARCHED, TOP, SEEDS = 100, 5, 5


def simulate(*, spread: float, noise: float, repetitions: int, seed: int) -> dict[str, float]:
    """Return how often each way finds the best of the five, and what the race takes."""
    generator = np.random.default_rng(seed)
    found = {"search": 0, "shares": 0, "race": 0, "covered": 0}
    trainings, lost = 0, {"search": 0.0, "shares": 0.0, "race": 0.0}
    for _ in range(repetitions):
        truth = generator.normal(0, spread, N_SEARCHED)
        seen = truth + generator.normal(0, noise, N_SEARCHED)
        top = truth[np.argsort(-seen)[:TOP]]
        best = int(top.argmax())
        equal = (top + generator.normal(0, noise, (SEEDS, TOP))).mean(axis=0)
        rounds: list[dict[int, float]] = []
        while not (standing := standings(rounds, n_candidates=TOP, budget=SEEDS * TOP, maximize=True)).is_over:
            rounds.append({c: float(top[c] + generator.normal(0, noise)) for c in standing.alive})
        winner = standing.alive[0]
        trainings += sum(map(len, rounds))
        for way, place in {"search": 0, "shares": int(equal.argmax()), "race": winner}.items():
            found[way] += place == best
            lost[way] += top[best] - top[place]
        interval = mean_interval((top[winner] + generator.normal(0, noise, SEEDS)).tolist())
        found["covered"] += interval.low <= top[winner] <= interval.high
    rates = {way: count / repetitions for way, count in found.items()}
    return (
        rates
        | {f"lost by {way}": total / repetitions for way, total in lost.items()}
        | {"trainings": trainings / repetitions}
    )


def print_simulated(repetitions: int) -> None:
    print(f"{repetitions} repetitions: the best of {TOP} is found by / mean loss; intervals that cover")
    print("| spread / noise | search | equal shares | race | covered | trainings |")
    print("|---|---|---|---|---|---|")
    for number, ratio in enumerate((0.25, 0.5, 1.0, 2.0)):
        row = simulate(spread=ratio, noise=1.0, repetitions=repetitions, seed=number)
        cells = [f"{row[way]:.3f} / {row[f'lost by {way}']:.3f}" for way in ("search", "shares", "race")]
        print(f"| {ratio} | {' | '.join(cells)} | {row['covered']:.3f} | {row['trainings']:.1f} |", flush=True)


def run_real(data: str, *, seeds: int, trials: int, epochs: int, trainings: int, home: Path) -> None:
    from caviar.champion.saved import probabilities_of
    from caviar.commands.champion import make_champion
    from caviar.commands.run import run_study
    from caviar.commands.status import study_status
    from caviar.data.loading import open_data
    from caviar.spec import parse_spec
    from caviar.storage.home import locate_home

    rows = []
    for seed in range(seeds):
        located = locate_home(home / f"seed-{seed}")
        spec = parse_spec(
            {
                "name": "search",
                "seed": seed,
                "data": {"dataset": data},
                "objective": {"epochs": epochs},
                "search": {"trials": trials, "workers": 2},
            }
        )
        run_study(spec, located)
        best = study_status(located, "search")["best"]
        champion = make_champion(located, "search", top=TOP, seeds=trainings, again=True).description
        assert champion is not None
        import keras

        test = open_data(spec.data).test(None)
        given = probabilities_of(keras.saving.load_model(best["network"], compile=False), test.features)
        accuracy = float((given.argmax(axis=1) == test.labels).mean())
        row = {
            "seed": seed,
            "search": accuracy,
            "champion": champion["test"]["accuracy"][0],
            "search_value": best["value"],
            "confirmed": champion["race"]["confirmed"][0],
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    gain = columns["champion"] - columns["search"]
    p = stats.wilcoxon(gain).pvalue if gain.any() else 1.0
    for name in ("search", "champion"):
        print(f"{name}: test accuracy {columns[name].mean():.4f} ± {columns[name].std(ddof=1):.4f}")
    won, lost = int((gain > 0).sum()), int((gain < 0).sum())
    print(f"gain {gain.mean():+.4f} ± {gain.std(ddof=1):.4f}, wins {won}, losses {lost}, p {p:.3f}")
    for name, of in {"search_value": "search", "confirmed": "champion"}.items():
        print(f"optimism of {name}: {(columns[name] - columns[of]).mean():+.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["simulated", "real"], required=True)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=SEEDS, help="Of each candidate, on average.")
    parser.add_argument("--home", type=Path, default=Path("runs-champion"))
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if options.part == "simulated":
        print_simulated(options.repetitions)
    else:
        run_real(
            options.data,
            seeds=options.seeds,
            trials=options.trials,
            epochs=options.epochs,
            trainings=options.trainings,
            home=options.home,
        )


if __name__ == "__main__":
    main()
