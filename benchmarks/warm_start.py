"""A warm start against a cold one on the LCBench surrogate: what a related source gains, and an unrelated one costs.

    CAVIAR_BENCH_DATA=… python benchmarks/warm_start.py [--seeds 3] [--processes 2] [--results FILE]

The surrogate predicts learning curves; nothing here was trained, and what it shows are predictions. Each of 34 tasks
is searched by the default search (``lcbench/ours.py``) for 10, 30 and 100 full trainings of 52 epochs, from a cold
start and from what the same search of 30 full trainings had learned on another task: the one whose ranks of
``N_COMPARED`` random networks after the last epoch are most like the target's (``related``), least like them
(``unrelated``), and one drawn by chance (``random_task``). Warm and cold share their seed, so that runs are pairs.
Regret is as in ``search.py``.

How much is taken over was chosen on the tasks of ``CHOSEN_ON`` with seeds from 100 on, for 10 and 30 full trainings
(``--choose``). Seed 0 on all tasks decided that the narrower space is not drawn from before the configurations have
proved better. The tables give all 34 tasks, and the 26 others alone, with seeds from 1 on. Results stand in a file, a
line a run: what is in it is not run again, and ``--table`` only shows it.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr, wilcoxon

from caviar.search.seeds import trial_seed
from caviar.search.warm_start import SourceStudy, WarmRule
from lcbench.ours import Settings, Warmth, search_ours
from lcbench.surrogate import EPOCHS, Surrogate
from lcbench.tables import regrets_of
from search import BUDGETS, CHOSEN_ON, get_surrogate, read_results

#: Full trainings of the search that something is taken from.
SOURCE_BUDGET = 30
#: Full trainings for which it was chosen how much is taken over.
CHOICE_BUDGETS = BUDGETS[:2]
#: Points of accuracy, added to both regrets of a ratio, that nobody would mind.
NEGLIGIBLE = 0.1
#: Random networks by whose ranks two tasks are compared.
N_COMPARED = 1000
RELATIONS = ("related", "random_task", "unrelated")
#: Way → how much is taken over; what ``--choose`` compares.
RULES = {
    "configurations_5": WarmRule(prior_share=0.0),
    "configurations_3": WarmRule(n_configurations=3, prior_share=0.0),
    "configurations_3_prior_half": WarmRule(n_configurations=3, prior_share=0.5),
    "configurations_5_prior_third": WarmRule(prior_share=1 / 3),
    "configurations_5_prior_half": WarmRule(prior_share=0.5),
    "configurations_5_prior_all": WarmRule(prior_share=1.0),
    "configurations_5_near_prior_half": WarmRule(prior_share=0.5, distance=0.0),
    "configurations_10_prior_half": WarmRule(n_configurations=10, prior_share=0.5),
}
DEFAULT = {"warm": WarmRule()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds a task (default: 3)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="(default: as many as cores)")
    parser.add_argument("--results", type=Path, help="(default: runs/warm_start.jsonl, or runs/warm_choice.jsonl)")
    parser.add_argument("--choose", action="store_true", help="compare how much is taken over, on the eight tasks")
    parser.add_argument("--table", action="store_true", help="run nothing, show what the results say")
    arguments = parser.parse_args()
    path = arguments.results or Path(f"runs/warm_{'choice' if arguments.choose else 'start'}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("CAVIAR_BENCH_DATA")
    if not data:
        sys.exit("Set CAVIAR_BENCH_DATA to the directory that holds lcbench_surrogate/.")
    directory = Path(data) / "lcbench_surrogate"
    if not arguments.table:
        run_all(directory, path, seeds=arguments.seeds, choose=arguments.choose, processes=arguments.processes)
    print_tables(read_results(path), chosen_on=() if arguments.choose else CHOSEN_ON)


def run_all(directory: Path, path: Path, *, seeds: int, choose: bool, processes: int) -> None:
    """Run what the results file does not hold yet, task and seed by task and seed."""
    surrogate = get_surrogate(directory)
    tasks = CHOSEN_ON if choose else surrogate.tasks
    first = 100 if choose else 1
    rules = tuple(RULES if choose else DEFAULT)
    budgets = CHOICE_BUDGETS if choose else BUDGETS
    done = {(row["task"], row["seed"]) for row in read_results(path) if row["way"] == "cold"}
    jobs = [(task, seed) for seed in range(first, first + seeds) for task in tasks if (task, seed) not in done]
    print(f"{len(jobs)} of {seeds * len(tasks)} tasks and seeds are left.", file=sys.stderr, flush=True)
    run = functools.partial(run_one, directory, rules, budgets)
    with (
        multiprocessing.get_context("spawn").Pool(processes) as pool,
        path.open("a", encoding="utf-8") as results,
    ):
        for count, rows in enumerate(pool.imap_unordered(run, jobs), start=1):
            results.writelines(json.dumps(row) + "\n" for row in rows)
            results.flush()
            if count % 10 == 0:
                print(f"{count} of {len(jobs)}", file=sys.stderr, flush=True)


def run_one(
    directory: Path, rules: Sequence[str], budgets: Sequence[int], job: tuple[str, int]
) -> list[dict[str, Any]]:
    """Search one task with one seed from every start, and return a row for each, the cold one last."""
    task, seed = job
    surrogate = get_surrogate(directory)
    reference = {"found": [_best_known(directory, task)], "cpu_s": 0.0}
    rows: list[dict[str, Any]] = [{"way": "reference", "task": task, "seed": seed, **reference}]
    for relation, source in relatives(directory, task, seed=seed).items():
        learned = learned_on(directory, source, seed)
        for name in rules:
            rule = {**RULES, **DEFAULT}[name]
            row = _search(surrogate, task, seed, budgets=budgets, warmth=Warmth(study=learned, rule=rule))
            rows.append({"way": f"{name} {relation}", "source": source, **row})
    return [*rows, {"way": "cold", **_search(surrogate, task, seed, budgets=budgets, warmth=None)}]


def _search(
    surrogate: Surrogate, task: str, seed: int, *, budgets: Sequence[int], warmth: Warmth | None
) -> dict[str, Any]:
    own = trial_seed(seed, int(task), "benchmark")
    started = time.process_time()
    found = [
        search_ours(Settings(), surrogate, task, seed=own, budget=EPOCHS * budget, warmth=warmth).best
        for budget in budgets
    ]
    return {"task": task, "seed": seed, "found": found, "cpu_s": round(time.process_time() - started, 2)}


@functools.cache
def learned_on(directory: Path, task: str, seed: int) -> SourceStudy:
    """Return a search of a task that others start from."""
    own = trial_seed(seed, int(task), "source")
    return search_ours(Settings(), get_surrogate(directory), task, seed=own, budget=EPOCHS * SOURCE_BUDGET).study


def relatives(directory: Path, task: str, *, seed: int) -> dict[str, str]:
    """Return for each relation the task that is searched before this one."""
    tasks = get_surrogate(directory).tasks
    likeness = dict(zip(tasks, rank_correlations(directory)[tasks.index(task)], strict=True))
    others = [other for other in tasks if other != task]
    drawn = np.random.default_rng(trial_seed(seed, int(task), "random task")).choice(others)
    return {
        "related": max(others, key=likeness.__getitem__),
        "random_task": str(drawn),
        "unrelated": min(others, key=likeness.__getitem__),
    }


@functools.cache
def rank_correlations(directory: Path) -> Any:
    """Return Spearman's correlation [34, 34] of the tasks' last accuracies over the same random networks."""
    surrogate = get_surrogate(directory)
    last = [surrogate.random_accuracies(task, n=N_COMPARED, epoch=EPOCHS, seed=0) for task in surrogate.tasks]
    return spearmanr(np.stack(last, axis=1)).statistic


@functools.cache
def _best_known(directory: Path, task: str) -> float:
    return get_surrogate(directory).best_of_random(task, n=20_000, epochs=(13, 26, 39, 52), seed=0)


def print_tables(rows: Sequence[dict[str, Any]], *, chosen_on: Sequence[str]) -> None:
    """Print how each warm start does against the cold one, for all tasks and for those that nothing was chosen on."""
    regrets = regrets_of(rows)
    if "cold" not in regrets:
        print("No finished runs yet.")
        return
    tasks = sorted(regrets["cold"], key=int)
    unseen = [task for task in tasks if task not in chosen_on]
    n_seeds = sorted({len(seeds) for seeds in regrets["cold"].values()})
    n_looks = min(len(row["found"]) for row in rows if row["way"] == "cold")
    print("Predictions of the LCBench surrogate, not recorded runs. Regret in points of validation accuracy;")
    print(f"seeds a task: {', '.join(map(str, n_seeds))}. A task's regret is the mean over its seeds.")
    print("Difference: warm minus cold, its median and mean over the tasks, and the mean's 90 % bootstrap interval.")
    print(f"Ratio: warm by cold, the geometric mean over the runs, {NEGLIGIBLE} points added to both.")
    titles = [("tasks", tasks)] if unseen == tasks else [("tasks", tasks), ("tasks that nothing was chosen on", unseen)]
    for title, chosen in titles:
        for index, budget in enumerate(BUDGETS[:n_looks]):
            print(f"\n{budget} full trainings, {len(chosen)} {title}")
            _print_table(regrets, chosen, index)


def _print_table(regrets: Any, tasks: Sequence[str], index: int) -> None:
    print(
        f"{'way':42}{'median regret':>14}{'mean':>8}{'difference':>12}{'mean':>8}{'interval':>18}"
        f"{'ratio':>7}{'warm wins':>12}{'ties':>6}{'two-sided p':>12}"
    )
    cold = _means(regrets, "cold", tasks, index)
    for way in regrets:
        warm = _means(regrets, way, tasks, index)
        line = f"{way:42}{np.median(warm):14.3f}{np.mean(warm):8.3f}"
        if way != "cold":
            apart = warm - cold
            low, high = _interval(apart)
            wins, ties = int((apart < 0).sum()), int((apart == 0).sum())
            p = float(wilcoxon(apart).pvalue) if ties < len(tasks) else 1.0
            line += f"{np.median(apart):12.3f}{apart.mean():8.3f}{f'{low:.3f} to {high:.3f}':>18}"
            line += f"{_ratio(regrets, way, tasks, index):7.2f}"
            line += f"{f'{wins} of {len(tasks)}':>12}{ties:6}{p:12.2g}"
        print(line)


def _ratio(regrets: Any, way: str, tasks: Sequence[str], index: int) -> float:
    pairs = [
        (regrets[way][task][seed][index], values[index])
        for task in tasks
        for seed, values in regrets["cold"][task].items()
    ]
    return float(np.exp(np.mean([np.log((warm + NEGLIGIBLE) / (cold + NEGLIGIBLE)) for warm, cold in pairs])))


def _interval(values: Any) -> tuple[float, float]:
    resampled = np.random.default_rng(0).choice(values, size=(10_000, len(values))).mean(axis=1)
    low, high = np.quantile(resampled, [0.05, 0.95])
    return float(low), float(high)


def _means(regrets: Any, way: str, tasks: Sequence[str], index: int) -> Any:
    return np.array([np.mean([values[index] for values in regrets[way][task].values()]) for task in tasks])


if __name__ == "__main__":
    main()
