"""The default search against stock Optuna on the LCBench surrogate: regret at equal epochs, tasks won, a paired test.

    CAVIAR_BENCH_DATA=… python benchmarks/search.py [--seeds 10] [--processes 2] [--results FILE]

The surrogate predicts learning curves; nothing here was trained, and what it shows are predictions. Each way searches
each of 34 tasks with each seed, one trial at a time, for 10, 30 and 100 full trainings of 52 epochs. Regret is the
best validation accuracy known of the task (of 20,000 random networks and of every run here) minus the best that a
way had reported, in percentage points. Stock Optuna runs once and is looked at three times; ours plans its stages, so
it runs once for each budget.

Ours was chosen on the tasks of ``CHOSEN_ON`` with seeds 100 to 102; the tables give all 34 tasks, and the 26 others
alone, with seeds from 0 on.

Results stand in a file, a line a run: what is in it is not run again, and ``--table`` only shows it.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import optuna

from caviar.search.seeds import trial_seed
from lcbench.ours import Settings, run_ours
from lcbench.picture import draw_picture
from lcbench.stock import STOCK, run_stock
from lcbench.surrogate import EPOCHS, Surrogate
from lcbench.tables import print_tables

#: Full trainings.
BUDGETS = (10, 30, 100)
#: Every fourth task, in the surrogate's order.
CHOSEN_ON = ("3945", "126026", "167149", "167181", "167200", "168331", "168910", "189866")
#: The default search, and what is left of it without its stages.
OURS = {"caviar": Settings(), "caviar_no_zoom": Settings(options={"stages": 1})}
#: Run where ``--ways`` names them: the same search tier by tier, and without tiers under the same names.
OURS_BY_TIERS = {
    "caviar_tiers": Settings(options={"tiers": True}, course_names=True),
    "caviar_course_names": Settings(course_names=True),
}
_REFERENCE_EPOCHS = (13, 26, 39, 52)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds a task, from 0 (default: 10)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="(default: as many as cores)")
    parser.add_argument("--results", type=Path, default=Path("runs/search.jsonl"), help="(default: runs/search.jsonl)")
    parser.add_argument("--ways", default=",".join([*STOCK, *OURS]), help="which to run (default: all)")
    parser.add_argument("--table", action="store_true", help="run nothing, show what the results say")
    parser.add_argument("--picture", type=Path, help="draw what the results say into this SVG file")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        data = os.environ.get("CAVIAR_BENCH_DATA")
        if not data:
            sys.exit("Set CAVIAR_BENCH_DATA to the directory that holds lcbench_surrogate/.")
        run_all(Path(data) / "lcbench_surrogate", arguments)
    rows = read_results(arguments.results)
    print_tables(rows, budgets=BUDGETS, chosen_on=CHOSEN_ON)
    if arguments.picture is not None:
        draw_picture(rows, arguments.picture, budgets=BUDGETS)


def run_all(directory: Path, arguments: argparse.Namespace) -> None:
    """Run what the results file does not hold yet, seed by seed, so that a stopped run is balanced over the tasks."""
    done = {(row["way"], row["task"], row["seed"]) for row in read_results(arguments.results)}
    tasks = Surrogate(directory).tasks
    wanted = [("reference", task, 0) for task in tasks]
    wanted += [
        (way, task, seed) for seed in range(arguments.seeds) for way in arguments.ways.split(",") for task in tasks
    ]
    left = [job for job in wanted if job not in done]
    print(f"{len(left)} of {len(wanted)} runs are left.", file=sys.stderr, flush=True)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(arguments.processes) as pool, arguments.results.open("a", encoding="utf-8") as results:
        for count, row in enumerate(pool.imap_unordered(functools.partial(run_one, directory), left), start=1):
            results.write(json.dumps(row) + "\n")
            results.flush()
            if count % 34 == 0:
                print(f"{count} of {len(left)}", file=sys.stderr, flush=True)


def run_one(directory: Path, job: tuple[str, str, int]) -> dict[str, Any]:
    """Run one way on one task with one seed."""
    way, task, seed = job
    surrogate = get_surrogate(directory)
    own = trial_seed(seed, int(task), "benchmark")  # with one for all tasks, a lucky first draw would win them all
    started = time.process_time()
    if way == "reference":
        found = [surrogate.best_of_random(task, n=20_000, epochs=_REFERENCE_EPOCHS, seed=0)]
    elif settings := {**OURS, **OURS_BY_TIERS}.get(way):
        found = [run_ours(settings, surrogate, task, seed=own, budget=EPOCHS * budget) for budget in BUDGETS]
    else:
        found = run_stock(way, surrogate, task, seed=own, budgets=[EPOCHS * budget for budget in BUDGETS])
    return {"way": way, "task": task, "seed": seed, "found": found, "cpu_s": round(time.process_time() - started, 2)}


@functools.cache
def get_surrogate(directory: Path) -> Surrogate:
    """Return this process's surrogate, after making it fit to run many studies."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _speed_up_optuna()
    return Surrogate(directory)


def _speed_up_optuna() -> None:
    """Let TPE, ours and stock alike, take log Φ from SciPy, a vector at once.

    Optuna computes it number by number in Python, which takes most of a search's time here. There is no public way.
    Checked: with seed 100 on task 189908 all stock ways gave the same results to the last digit with and without it.
    """
    import optuna.samplers._tpe._truncnorm as truncated_normal
    from scipy.special import log_ndtr

    truncated_normal._log_ndtr = log_ndtr


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file; none where it does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()
