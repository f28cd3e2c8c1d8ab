"""The default search on real data, against random search, TPE with median pruning, and Hyperband, at equal epochs.

    python benchmarks/search_real.py --data digits    # 8 seeds: 64 searches, half a minute each on 2 cores
    CAVIAR_BENCH_DATA=… python benchmarks/search_real.py --data fashion --seeds 4

Every search is a study that ``caviar`` runs, trains and stores as ever, one worker with a fleet, for so many epochs as
10 and as 30 whole trainings have: the same trainer, space, epochs and split for all, which share their seed. Epochs
count as they were reported, and trials that go beyond the budget do not count. The result of a search is its best
complete trial, the one that the product would give; beside it stands the best that any trial had reported, pruned ones
included. Both are of the validation split that the search itself looked at, so they are a little too good, for all.

Digits: 20 epochs, the default space, half of the training split for validation: of the usual fifth, 288 images, one is
0.35 points, and most searches tie. Fashion-MNIST: 8 epochs, narrow networks of one or two hidden layers; 12,000 images
train and 48,000 judge, so that a search takes a minute or two and hardly two tie.

Results stand in a file, a line a search; what is in it is not run again, one that was stopped goes on in its home, and
``--table`` only shows what there is. Another default sampler or pruner makes other searches.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from caviar.commands.epoch_budget import read_trials, spend_on_study
from caviar.data.prepare import prepare_dataset
from caviar.engines.quiet import import_tensorflow_quietly
from caviar.insight.comparison import PaidTrial, best_so_far, paired_test, within_budget
from caviar.spec import SearchSpec, StudySpec, parse_spec, spec_table
from caviar.storage.home import Home, locate_home

BUDGETS = (10, 30)
OURS = "caviar"
#: Ours is the search of a study file that names neither a sampler nor a pruner.
WAYS = {
    "random": SearchSpec(sampler="random", pruner="none"),
    "tpe_median": SearchSpec(sampler="tpe", pruner="median"),
    "hyperband": SearchSpec(sampler="random", pruner="hyperband"),
    OURS: SearchSpec(),
}
STUDIES: dict[str, dict[str, Any]] = {
    "digits": {"data": {"dataset": "digits", "validation_fraction": 0.5}, "objective": {"epochs": 20}},
    "fashion": {
        "data": {"validation_fraction": 0.8},
        "objective": {"epochs": 8},
        "space": {
            "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
            "momentum": {"low": 0.5, "high": 0.999, "scale": "log-complement"},
            "batch_size": {"choices": [64, 128, 256]},
            "depth": {"low": 1, "high": 2},
            "units": {"low": 16, "high": 64, "scale": "log"},
            "batch_norm": {"choices": ["none", "before_activation", "after_activation"]},
        },
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One search.

    Attributes:
        data: A key of ``STUDIES``.
        way: A key of ``WAYS``.
        seed: Of the study, its split of the data included.
        budget: Whole trainings.
    """

    data: str
    way: str
    seed: int
    budget: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=tuple(STUDIES), default="digits", help="(default: digits)")
    parser.add_argument("--seeds", type=int, default=8, help="from 0 (default: 8)")
    parser.add_argument("--budgets", type=_numbers, default=BUDGETS, help="whole trainings (default: 10,30)")
    parser.add_argument("--ways", default=",".join(WAYS), help="which to run (default: all)")
    parser.add_argument("--epochs", type=int, help="of a whole training (default: the data's own)")
    parser.add_argument("--results", type=Path, default=Path("runs/search_real.jsonl"), help="(default: %(default)s)")
    parser.add_argument("--home", type=Path, default=Path("runs/search_real"), help="(default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="run nothing, show what the results say")
    arguments = parser.parse_args()
    if not arguments.table and not run_all(arguments):
        sys.exit(130)
    rows = [row for row in read_current(arguments.results) if row["data"] == arguments.data]
    for budget in sorted({row["budget"] for row in rows}):
        print_table([row for row in rows if row["budget"] == budget])


def run_all(arguments: argparse.Namespace) -> bool:
    """Run what the results file does not hold yet, seed by seed; return False where a signal ended it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home = locate_home(arguments.home)
    done = {tuple(row[field.name] for field in dataclasses.fields(Job)) for row in read_current(arguments.results)}
    jobs = [
        Job(data=arguments.data, way=way, seed=seed, budget=budget)
        for seed in range(arguments.seeds)
        for budget in arguments.budgets
        for way in arguments.ways.split(",")
    ]
    left = [job for job in jobs if dataclasses.astuple(job) not in done]
    print(f"{len(left)} of {len(jobs)} searches are left.", file=sys.stderr, flush=True)
    study = with_data(arguments.data, arguments.home) if left else {}
    if arguments.epochs is not None:
        study["objective"] = {"epochs": arguments.epochs}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    for count, job in enumerate(left, start=1):
        row = run_one(job, study, home)
        if row is None:
            return False
        with arguments.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
        print(f"{count} of {len(left)}: {row}", file=sys.stderr, flush=True)
    return True


def run_one(job: Job, study: dict[str, Any], home: Home) -> dict[str, Any] | None:
    """Run one search and return what it found; None where a signal ended it."""
    spec = study_of(job, study)
    epochs, started = job.budget * spec.objective.epochs, time.monotonic()
    spending = spend_on_study(spec, home, budget_epochs=epochs, on_progress=lambda _progress: None)
    if spending.interrupted:
        return None
    trials = read_trials(home, spending.study, uid=spending.uid)
    paid = within_budget([_paid(trial) for trial in trials], epochs)
    reported = [value for trial in trials[: len(paid)] for value in trial.intermediate_values.values()]
    return {
        **dataclasses.asdict(job),
        "sampler": spec.search.sampler,
        "pruner": spec.search.pruner,
        "complete": best_so_far(paid, budget_epochs=epochs, maximize=True).final,
        "reported": max(reported, default=None),
        "trials": len(paid),
        "epochs": sum(trial.epochs for trial in paid),
        "seconds": round(time.monotonic() - started, 1),
    }


def study_of(job: Job, study: dict[str, Any]) -> StudySpec:
    """Return the study file of one search."""
    sampler, pruner = _names(job.way)
    spec = parse_spec({"name": f"{job.data}-{sampler}-{pruner}-{job.budget}-{job.seed}", "seed": job.seed, **study})
    return parse_spec(
        spec_table(dataclasses.replace(spec, search=dataclasses.replace(WAYS[job.way], trials=job.budget)))
    )


def with_data(data: str, scratch: Path) -> dict[str, Any]:
    """Return the study file's tables of a data set, which is prepared where it is not yet."""
    if data != "fashion":
        return dict(STUDIES[data])
    root = os.environ.get("CAVIAR_BENCH_DATA")
    if not root:
        sys.exit("Set CAVIAR_BENCH_DATA to the directory that holds fashion_mnist/.")
    import_tensorflow_quietly()
    files = Path(root) / "fashion_mnist"
    directory = prepare_dataset("fashion_mnist", data_dir=scratch.absolute() / "tfds", manual_dir=files)
    return {**STUDIES[data], "data": {**STUDIES[data]["data"], "dataset": str(directory)}}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print how the ways did on the seeds that all of them have finished."""
    ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
    seeds = sorted(set.intersection(*({row["seed"] for row in rows if row["way"] == way} for way in ways)))
    first = rows[0]
    print(f"\n{first['data']}, {first['budget']} whole trainings, {len(seeds)} seeds: best val_accuracy")
    print(
        f"{'way':12}{'median':>9}{'quartiles':>18}{'reported':>10}{'trials':>8}{'epochs':>8}"
        f"{'ours: won':>11}{'tied':>6}{'lost':>6}{'p':>8}"
    )
    by_way = {
        way: [next(row for row in rows if row["way"] == way and row["seed"] == seed) for seed in seeds] for way in ways
    }
    for way, own in by_way.items():
        finals = [row["complete"] for row in own]
        low, median, high = np.quantile([0.0 if value is None else value for value in finals], (0.25, 0.5, 0.75))
        line = f"{way:12}{median:9.4f}{f'{low:.4f} to {high:.4f}':>18}{_median(own, 'reported'):10.4f}"
        line += f"{_median(own, 'trials'):8.0f}{_median(own, 'epochs'):8.0f}"
        if way != OURS and OURS in by_way:
            test = paired_test([row["complete"] for row in by_way[OURS]], finals, maximize=True)
            p = "" if test.p is None else f"{test.p:.2g}"
            line += f"{test.wins:11}{test.n - test.wins - test.losses:6}{test.losses:6}{p:>8}"
        print(line)


def read_current(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file whose sampler and pruner are still their way's; none where there is no file."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row for row in rows if (row["sampler"], row["pruner"]) == _names(row["way"])]


def _names(way: str) -> tuple[str, str]:
    return WAYS[way].sampler, WAYS[way].pruner


def _paid(trial: FrozenTrial) -> PaidTrial:
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return PaidTrial(epochs=len(trial.intermediate_values), value=value, hyperparameters={})


def _median(rows: Iterable[dict[str, Any]], key: str) -> float:
    return float(np.median([row[key] or 0 for row in rows]))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
