"""Trials a minute of KerasTuner, Optuna, Ray Tune, scikit-learn and this project, on the same list of configurations.

One command, one machine, one run, sides alternating. Every side is a fresh process, start-up and all. Ours runs from
the command line, ``caviar run``, from an empty home, its study and its MLflow runs written as ever; peers train the
same networks by ``model.fit``, keeping what they keep by default. Sides that are slow train the first configurations
of the list (``--peer-trials``), which is stated; their start-up counts once, as it would in the whole study.

    python -m pip install '.[benchmark]'             # the peers; or in another environment: --peers-python
    python benchmarks/throughput.py                  # about 15 minutes on 2 cores: digits, with and without pruning
    python benchmarks/throughput.py --part growth    # 32, 128, 512 and 2,048 trials
    CAVIAR_BENCH_DATA=… python benchmarks/throughput.py --part fashion --part target
"""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import optuna

from caviar.data.prepare import prepare_dataset
from caviar.engines.quiet import import_tensorflow_quietly
from harness.machine import describe_machine, numpy_flop_per_s
from harness.parts import (
    HYPERBAND,
    KERAS_TUNER,
    OPTUNA,
    Bench,
    Sizes,
    growth_sides,
    open_bench,
    run_round,
    target_sides,
    throughput_sides,
    wide_sides,
)
from harness.peer_side import Peers, peer_versions
from harness.side import Outcome
from harness.tables import growth_table, pruning_table, target_table, throughput_table

PARTS = ("digits", "pruned", "matmul", "growth", "fashion", "target")
DISTRIBUTIONS = ("tensorflow", "keras", "numpy", "optuna", "keras-tuner", "optuna-integration", "ray", "scikit-learn")
DIGITS_TRIALS = 256
FOOTNOTE = (
    "Median (least to greatest) over the rounds; ratios are taken round by round. ¹ fewer trials were run; the part of "
    "the time that grows with the trials is extrapolated, start-up is not. Of numpy's rate: the operations of the "
    "networks' own matrix products, 6·Σ wᵢ·wᵢ₊₁ an example and epoch, over the whole wall time; padded: with the "
    "padding; while training: without it, over the workers' training time alone. Peak MB: all processes of the side, "
    "shared pages once. Best: the best validation accuracy."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for.

    Attributes:
        rounds: Rounds of each part.
        trials: Of the fleet's studies; None for the part's own number.
        solo_trials: Of our solo trainer at most.
        peer_trials: Of a peer at most; None for the part's own number.
        sizes: Of the growth part.
        seed: Of the studies.
        target: Validation accuracy of the target part.
        trainers: Ours in the parts target and matmul.
    """

    rounds: int
    trials: int | None
    solo_trials: int
    peer_trials: int | None
    sizes: tuple[int, ...]
    seed: int
    target: float
    trainers: tuple[str, ...]


@click.command(help=__doc__.partition("\n    python")[0])
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS[:3], show_default=True)
@click.option("--rounds", default=1, show_default=True, help="Rounds; odd ones run forwards, even ones backwards.")
@click.option("--trials", type=int, help="Trials of the fleet's studies. [256; fashion: 32; matmul: 32]")
@click.option("--solo-trials", default=48, show_default=True, help="Trials of our solo trainer at most.")
@click.option("--peer-trials", type=int, help="Trials of a peer at most. [16; fashion: 3; growth: 32]")
@click.option("--sizes", default="32,128,512,2048", show_default=True, help="Trials of the growth part's studies.")
@click.option("--seed", default=0, show_default=True, help="Seed of the studies; target: of its first round.")
@click.option("--target", default=0.88, show_default=True, help="Validation accuracy of the target part.")
@click.option("--trainers", default="fleet", show_default=True, help="Ours in the parts target and matmul: fleet,solo.")
@click.option("--timeout-s", default=3600.0, show_default=True, help="Seconds after which a side is stopped.")
@click.option("--peers-python", type=click.Path(path_type=Path), default=Path(sys.executable), help="Has the peers.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep everything in this directory.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/throughput.json"), show_default=True)
def main(
    *,
    parts: tuple[str, ...],
    rounds: int,
    trials: int | None,
    solo_trials: int,
    peer_trials: int | None,
    sizes: str,
    seed: int,
    target: float,
    trainers: str,
    timeout_s: float,
    peers_python: Path,
    scratch: Path | None,
    output: Path,
) -> None:
    plan = Plan(
        rounds=rounds,
        trials=trials,
        solo_trials=solo_trials,
        peer_trials=peer_trials,
        sizes=tuple(int(size) for size in sizes.split(",")),
        seed=seed,
        target=target,
        trainers=tuple(trainers.split(",")),
    )
    import_tensorflow_quietly()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    facts = {
        **describe_machine(),
        "command": " ".join(sys.argv),
        "versions": peer_versions(peers_python, DISTRIBUTIONS),
        "plan": dataclasses.asdict(plan),
        "parts": {},
    }
    for key in ("date", "cpu", "cores", "memory_gb", "command", "versions"):
        click.echo(f"{key}: {facts[key]}")
    with tempfile.TemporaryDirectory() as temporary:
        directory = (scratch or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        # Not resolved: the interpreter of a virtual environment is a link whose place tells it where it is.
        peers = Peers(python=peers_python.absolute(), scratch=directory, timeout_s=timeout_s)
        outcomes: dict[str, list[list[Outcome]]] = {}
        for part in parts:
            facts["parts"][part], outcomes[part] = run_part(part, plan, peers)
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
    if {"digits", "pruned"} <= set(parts):
        click.echo(f"\n{pruning_table(outcomes['digits'], outcomes['pruned'], n_trials=trials or DIGITS_TRIALS)}")
    click.echo(f"\n{FOOTNOTE}\nAll numbers: {output}")


def run_part(part: str, plan: Plan, peers: Peers) -> tuple[dict[str, Any], list[list[Outcome]]]:
    """Run one part, print its table, and return its numbers and its rounds."""
    click.echo(f"\n## {part}\n")
    name = "digits" if part in ("digits", "pruned", "matmul", "growth") else prepare_fashion(peers.scratch)
    if name is None:
        click.echo("Skipped: CAVIAR_BENCH_DATA does not name a directory that has fashion_mnist/.")
        return {"skipped": True}, []
    rate = numpy_flop_per_s()
    click.echo(f"numpy's float32 product of two 2,048 × 2,048 matrices: {rate / 1e9:.0f} GFLOP/s")
    bench = open_bench(peers, name, seed=plan.seed)
    table, rounds = PROGRAMS[part](bench, plan, rate)
    click.echo(f"\n{table}")
    return {
        "numpy_flop_per_s": rate,
        "table": table,
        "rounds": [[dataclasses.asdict(outcome) for outcome in outcomes] for outcomes in rounds],
    }, rounds


def run_throughput(bench: Bench, plan: Plan, rate: float, *, pruning: bool = False) -> tuple[str, list[list[Outcome]]]:
    """Every side on the fixed list."""
    fashion = bench.name != "digits"
    trials, peer = plan.trials or (32 if fashion else DIGITS_TRIALS), plan.peer_trials or (3 if fashion else 16)
    sizes = Sizes(trials=trials, solo=min(plan.solo_trials, trials), peer=min(peer, trials))
    sides, note = throughput_sides(bench, sizes, pruning=pruning)
    click.echo(f"{trials} trials of {bench.dataset.name}; slow sides train {note}")
    rounds = [run_round(sides, backwards=bool(index % 2)) for index in range(plan.rounds)]
    baseline = OPTUNA if pruning else KERAS_TUNER
    return throughput_table(rounds, n_trials=trials, baseline=baseline, numpy_rate=rate), rounds


def run_pruned(bench: Bench, plan: Plan, rate: float) -> tuple[str, list[list[Outcome]]]:
    """The same with successive halving, by the sides that have a pruner."""
    return run_throughput(bench, plan, rate, pruning=True)


def run_matmul(bench: Bench, plan: Plan, rate: float) -> tuple[str, list[list[Outcome]]]:
    """Ours on lanes of 256×4."""
    trials = plan.trials or 32
    click.echo(f"{trials} trials of 256×4, batch 128, {bench.dataset.name}")
    rounds = [
        run_round(wide_sides(bench, trials=trials, trainers=plan.trainers), backwards=bool(index % 2))
        for index in range(plan.rounds)
    ]
    return throughput_table(rounds, n_trials=trials, baseline="", numpy_rate=rate), rounds


def run_growth(bench: Bench, plan: Plan, rate: float) -> tuple[str, list[list[Outcome]]]:
    """How rate, memory and shares go as studies grow; one round a size."""
    del rate
    rounds = []
    for index, size in enumerate(plan.sizes):
        sizes = Sizes(trials=size, solo=plan.solo_trials, peer=plan.peer_trials or 32)
        rounds.append(run_round(growth_sides(bench, sizes), backwards=bool(index % 2)))
    return growth_table(rounds, plan.sizes), rounds


def run_target(bench: Bench, plan: Plan, rate: float) -> tuple[str, list[list[Outcome]]]:
    """Minutes until a trial reaches the target; each round has a seed of its own, and a cut of its own."""
    del rate
    rounds = []
    for index in range(plan.rounds):
        own = open_bench(bench.peers, bench.name, seed=plan.seed + index)
        sides = target_sides(own, target=plan.target, trainers=plan.trainers)
        rounds.append(run_round(sides, backwards=bool(index % 2)))
    return target_table(rounds, target=plan.target, baseline=HYPERBAND), rounds


PROGRAMS = {
    "digits": run_throughput,
    "pruned": run_pruned,
    "matmul": run_matmul,
    "growth": run_growth,
    "fashion": run_throughput,
    "target": run_target,
}


def prepare_fashion(scratch: Path) -> str | None:
    """Return the directory of Fashion-MNIST, prepared from ``CAVIAR_BENCH_DATA``; None where it is not there."""
    root = os.environ.get("CAVIAR_BENCH_DATA")
    files = None if root is None else Path(root) / "fashion_mnist"
    if files is None or not files.is_dir():
        return None
    return str(prepare_dataset("fashion_mnist", data_dir=scratch / "tfds", manual_dir=files))


if __name__ == "__main__":
    main()
