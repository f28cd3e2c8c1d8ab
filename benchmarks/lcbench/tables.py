"""The tables of benchmarks/search.py, from its rows."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

#: Way → task → seed → regret at each budget, in percentage points.
Regrets = dict[str, dict[str, dict[int, list[float]]]]
OURS = "caviar"


def print_tables(rows: Sequence[Mapping[str, Any]], *, budgets: Sequence[int], chosen_on: Collection[str]) -> None:
    """Print one table for all tasks and one for those that no setting was chosen on, then where ours loses."""
    regrets = compare_seeds_all_have(regrets_of(rows))
    if OURS not in regrets:
        print("No finished runs of ours yet.")
        return
    tasks = sorted(regrets[OURS], key=int)
    unseen = [task for task in tasks if task not in chosen_on]
    n_seeds = {len(seeds) for way in regrets.values() for seeds in way.values()}
    print("Predictions of the LCBench surrogate, not recorded runs. Regret in points of validation accuracy;")
    print(f"seeds a task: {', '.join(map(str, sorted(n_seeds)))}. A task's regret is the mean over its seeds.")
    for title, chosen in (("all tasks", tasks), ("tasks that no setting was chosen on", unseen)):
        for index, budget in enumerate(budgets):
            print(f"\n{budget} full trainings, {len(chosen)} {title}")
            _print_table(regrets, chosen, index)
    _print_losses(regrets, tasks, budgets)


def regrets_of(rows: Sequence[Mapping[str, Any]]) -> Regrets:
    """Return every run's regret: the best known of its task minus what it had found at each budget."""
    best: dict[str, float] = defaultdict(float)
    for row in rows:
        best[row["task"]] = max(best[row["task"]], *row["found"])
    regrets: Regrets = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["way"] != "reference":
            regrets[row["way"]][row["task"]][row["seed"]] = [best[row["task"]] - found for found in row["found"]]
    return regrets


def compare_seeds_all_have(regrets: Regrets) -> Regrets:
    """Return the runs of the tasks and seeds that every way has finished, so that all are compared on the same."""
    shared = (
        set.intersection(
            *({(task, seed) for task, seeds in way.items() for seed in seeds} for way in regrets.values()),
        )
        if regrets
        else set()
    )
    kept: Regrets = {}
    for way, tasks in regrets.items():
        for task, seeds in tasks.items():
            for seed, values in seeds.items():
                if (task, seed) in shared:
                    kept.setdefault(way, {}).setdefault(task, {})[seed] = values
    return kept


def _print_table(regrets: Regrets, tasks: Sequence[str], index: int) -> None:
    print(
        f"{'way':16}{'median regret':>15}{'mean':>8}{'runs: median':>14}{'ours wins':>12}{'ties':>6}{'two-sided p':>12}"
    )
    ours = _means(regrets, OURS, tasks, index)
    for way in regrets:
        means = _means(regrets, way, tasks, index)
        runs = [values[index] for task in tasks for values in regrets[way][task].values()]
        line = f"{way:16}{np.median(means):15.2f}{np.mean(means):8.2f}{np.median(runs):14.2f}"
        if way != OURS:
            wins, ties = int((ours < means).sum()), int((ours == means).sum())
            p = float(wilcoxon(ours, means).pvalue) if ties < len(tasks) else 1.0
            line += f"{f'{wins} of {len(tasks)}':>12}{ties:6}{p:12.2g}"
        print(line)


def _print_losses(regrets: Regrets, tasks: Sequence[str], budgets: Sequence[int]) -> None:
    print("\nWhere ours loses (task: its regret against theirs)")
    for index, budget in enumerate(budgets):
        for way in regrets:
            lost = [
                f"{task}: {mine:.2f} against {theirs:.2f}"
                for task, mine, theirs in zip(
                    tasks, _means(regrets, OURS, tasks, index), _means(regrets, way, tasks, index), strict=True
                )
                if mine > theirs
            ]
            if way != OURS:
                print(f"{budget} full trainings, {way}: {len(lost)} of {len(tasks)}; {'; '.join(lost) or 'none'}")


def _means(regrets: Regrets, way: str, tasks: Sequence[str], index: int) -> Any:
    return np.array([np.mean([values[index] for values in regrets[way][task].values()]) for task in tasks])
