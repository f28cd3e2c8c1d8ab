"""The parts of the benchmark: which sides run in a round, and in what order."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from caviar.data.dataset import Dataset
from caviar.data.loading import load_dataset
from caviar.space import DEFAULT_SPACE_TABLE, parse_space
from harness.caviar_side import Command, Study, run_caviar
from harness.configurations import arrays_of, describe_sample, draw_configurations, fits_sklearn
from harness.peer_side import Peers, run_peer
from harness.side import Outcome, SideRun
from peers.job import Configuration, Job, write_data

KERAS_TUNER, HYPERBAND = "KerasTuner RandomSearch", "KerasTuner Hyperband"
OPTUNA, RAY, SKLEARN = "Optuna + model.fit", "Ray Tune + model.fit", "scikit-learn MLPClassifier"
EPOCHS = 20
_CORES_WORTH = (1, 2)

#: Lanes of 256×4, for the matrix-product rate: only what does not change the shapes is drawn.
WIDE_SPACE = """learning_rate = { low = 1e-3, high = 1e-1, scale = "log" }
batch_size = 128
depth = 4
units = 256"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """What every part shares.

    Attributes:
        peers: Where peers run.
        name: The data set, as a study file names it.
        seed: Of the studies, and of the cut into train and validation.
        dataset: The data set itself.
        data: The same as an npz file, for the peers.
    """

    peers: Peers
    name: str
    seed: int
    dataset: Dataset
    data: Path

    def job(self, *, pruning: bool = False, target: float | None = None) -> Job:
        """Return a peer's job, but for its list and its files."""
        return Job(
            data=self.data,
            results=Path(),
            scratch=Path(),
            epochs=EPOCHS,
            configurations=(),
            pruning=pruning,
            seed=self.seed,
            target=target,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many trials each kind of side runs.

    Attributes:
        trials: The study's, which the fleet runs whole.
        solo: At most so many by our solo trainer.
        peer: At most so many by a peer.
    """

    trials: int
    solo: int
    peer: int


#: Runs a side, and perhaps what follows from it.
Side = Callable[[], list[Outcome]]


def open_bench(peers: Peers, name: str, *, seed: int) -> Bench:
    """Load a data set and lay it out for the peers."""
    dataset = load_dataset(name, seed=seed)
    data = peers.scratch / f"data-{Path(name).name}-{seed}.npz"
    write_data(arrays_of(dataset), data)
    return Bench(peers=peers, name=name, seed=seed, dataset=dataset, data=data)


def throughput_sides(bench: Bench, sizes: Sizes, *, pruning: bool) -> tuple[list[Side], str]:
    """Return the sides that train the fixed list, and what part of it the slow ones do."""
    trials = max(sizes.trials, 3 * sizes.peer)  # a third fits scikit-learn
    listed = draw_configurations(parse_space(DEFAULT_SPACE_TABLE), n_trials=trials, seed=bench.seed)
    first = listed[: sizes.peer]
    plain = [each for each in listed if fits_sklearn(each)][: sizes.peer]
    job = bench.job(pruning=pruning)

    def peer(program: str, name: str, chosen: Sequence[Configuration]) -> Side:
        return lambda: [
            run_peer(bench.peers, program, side=name, configurations=chosen, dataset=bench.dataset, job=job)
        ]

    note = describe_sample(listed[: sizes.trials], len(first), bench.dataset, epochs=EPOCHS)
    sides = [
        peer("optuna_fit", OPTUNA, first),
        *_our_sides(bench, sizes, listed, pruning=pruning),
        peer("ray_tune", RAY, first),
    ]
    if not pruning:  # neither has a pruner for a given list
        sides = [peer("keras_tuner_random", KERAS_TUNER, first), *sides, peer("sklearn_mlp", SKLEARN, plain)]
    return sides, note


def _our_sides(bench: Bench, sizes: Sizes, listed: Sequence[Configuration], *, pruning: bool) -> list[Side]:
    def ours(trainer: str, workers: int, trials: int) -> Side:
        return lambda: our_runs(bench, trainer, workers, trials, listed=listed, pruning=pruning)

    return [ours("solo", 1, min(sizes.solo, sizes.trials)), *(ours("fleet", n, sizes.trials) for n in _CORES_WORTH)]


def our_runs(
    bench: Bench,
    trainer: str,
    workers: int,
    trials: int,
    *,
    listed: Sequence[Configuration],
    pruning: bool = False,
) -> list[Outcome]:
    """Run our side in an empty home, in which fleets then run a second study of the same space."""
    command = Command(
        trainer=trainer, workers=workers, home=fresh_home(bench.peers.scratch), timeout_s=bench.peers.timeout_s
    )
    study = Study(dataset=bench.name, trials=trials, seed=bench.seed, epochs=EPOCHS, pruning=pruning)
    first = run_caviar(command, study, configurations=listed, dataset=bench.dataset)
    if trainer != "fleet" or not isinstance(first, SideRun):
        return [first]
    again = dataclasses.replace(study, seed=bench.seed + 1)
    side = f"{command.side}, second study"
    return [first, run_caviar(command, again, configurations=(), dataset=bench.dataset, side=side)]


def growth_sides(bench: Bench, sizes: Sizes) -> list[Side]:
    """Return the sides of one size of the growth part; a side that would run too many is left out."""
    listed = draw_configurations(parse_space(DEFAULT_SPACE_TABLE), n_trials=sizes.trials, seed=bench.seed)
    sides: list[Side] = []
    if sizes.trials <= sizes.peer:
        sides += [
            lambda: [
                run_peer(
                    bench.peers,
                    "keras_tuner_random",
                    side=KERAS_TUNER,
                    configurations=listed,
                    dataset=bench.dataset,
                    job=bench.job(),
                )
            ]
        ]
    if sizes.trials <= sizes.solo:
        sides += [lambda: our_runs(bench, "solo", 1, sizes.trials, listed=listed)]
    return [*sides, *(_our_sides(bench, sizes, listed, pruning=False)[1:])]


def target_sides(bench: Bench, *, target: float, trainers: Sequence[str]) -> list[Side]:
    """Return the sides that search by themselves until a trial reaches the target."""

    def ours(trainer: str, workers: int) -> Side:
        study = Study(dataset=bench.name, trials=10_000, seed=bench.seed, epochs=EPOCHS, pruning=True)
        scratch = bench.peers.scratch
        new = Command(
            trainer=trainer,
            workers=workers,
            home=fresh_home(scratch),
            timeout_s=bench.peers.timeout_s,
            target=target,
            cache=fresh_home(scratch),
        )
        known = dataclasses.replace(new, home=fresh_home(scratch))  # the same study where one has run before
        return lambda: [
            run_caviar(command, study, configurations=(), dataset=bench.dataset, side=side)
            for command, side in ((new, new.side), (known, f"{new.side}, second study"))
        ]

    def hyperband() -> list[Outcome]:
        job = bench.job(target=target)
        program = "keras_tuner_hyperband"
        return [run_peer(bench.peers, program, side=HYPERBAND, configurations=(), dataset=bench.dataset, job=job)]

    return [hyperband, *(ours(trainer, workers) for trainer in trainers for workers in _CORES_WORTH)]


def wide_sides(bench: Bench, *, trials: int, trainers: Sequence[str]) -> list[Side]:
    """Return our sides on lanes of 256×4, where arithmetic is nearly all that there is to do."""

    def ours(trainer: str) -> Side:
        command = Command(
            trainer=trainer, workers=1, home=fresh_home(bench.peers.scratch), timeout_s=bench.peers.timeout_s
        )
        study = Study(dataset=bench.name, trials=trials, seed=bench.seed, epochs=EPOCHS, space=WIDE_SPACE)
        return lambda: [run_caviar(command, study, configurations=(), dataset=bench.dataset)]

    return [ours(trainer) for trainer in trainers]


def run_round(sides: Sequence[Side], *, backwards: bool) -> list[Outcome]:
    """Run every side once; every second round backwards, so that a drift of the machine falls on all."""
    outcomes = []
    for side in reversed(sides) if backwards else sides:
        for outcome in side():
            outcomes.append(outcome)
            print(f"  {_line(outcome)}", file=sys.stderr, flush=True)
    return outcomes


def _line(outcome: Outcome) -> str:
    if not isinstance(outcome, SideRun):
        return f"{outcome.side}: not run: {outcome.reason}"
    rate = outcome.rate(outcome.n_trials)
    shown = "no trial" if rate is None else f"{outcome.n_trials} trials, {rate:.1f} a minute"
    reached = "" if outcome.reached_s is None else f", reached after {outcome.reached_s:.0f} s"
    return f"{outcome.side}: {outcome.wall_s:.1f} s, {shown}{reached} {outcome.note}"


_homes = itertools.count()


def fresh_home(scratch: Path) -> Path:
    """Return a directory that no run has used."""
    return scratch / f"home-{next(_homes)}"
