"""Running a peer: a program of ``peers`` in a process of its own, with the Python that has it installed."""

import dataclasses
import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from caviar.data.dataset import Dataset
from harness.configurations import flop_of_epoch
from harness.side import Outcome, SideRun, Skipped, best_of
from harness.watch import run_watched
from peers.job import Configuration, Job, read_results, write_job

_BENCHMARKS = Path(__file__).resolve().parent.parent
#: A peer's program → the package that it needs.
PACKAGES = {
    "keras_tuner_random": "keras_tuner",
    "keras_tuner_hyperband": "keras_tuner",
    "optuna_fit": "optuna_integration",
    "ray_tune": "ray",
    "sklearn_mlp": "sklearn",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peers:
    """Where peers run.

    Attributes:
        python: The interpreter that has them installed.
        scratch: A directory for their files.
        timeout_s: Seconds after which one is stopped.
    """

    python: Path
    scratch: Path
    timeout_s: float


def run_peer(
    peers: Peers,
    program: str,
    *,
    side: str,
    configurations: Sequence[Configuration],
    dataset: Dataset,
    job: Job,
) -> Outcome:
    """Run one peer over these configurations, or over its own search where there are none.

    Args:
        peers: Where it runs.
        program: Its module in ``peers``.
        side: Its name in the tables.
        configurations: What it trains.
        dataset: What it trains on; ``job.data`` holds the same.
        job: The rest of what it is told; its configurations, results and scratch are set here.
    """
    if not is_installed(peers.python, PACKAGES[program]):
        return Skipped(side=side, reason=f"{PACKAGES[program]} is not installed")
    directory = Path(tempfile.mkdtemp(prefix=program, dir=peers.scratch))
    own = directory / "scratch"
    own.mkdir()
    results = directory / "results.jsonl"
    job = dataclasses.replace(job, configurations=tuple(configurations), results=results, scratch=own)
    write_job(job, directory / "job.json")
    watched = run_watched(
        [peers.python, "-m", f"peers.{program}", directory / "job.json"],
        log=directory / "log",
        environment=peer_environment(),
        timeout_s=peers.timeout_s,
    )
    entries = read_results(results)
    ready = next((entry["ready"] for entry in entries if "ready" in entry), watched.begun)
    trials = {entry["trial"]: entry for entry in entries if "trial" in entry}
    reached = next((entry["at"] - watched.begun for entry in entries if "reached" in entry), None)
    failed = watched.exit_code != 0 or (configurations and not trials)  # Ray ends with 0 where every trial failed
    if failed and watched.stopped is None:
        return Skipped(side=side, reason=f"exit code {watched.exit_code}: {watched.last_line}")
    by_number = {configuration.number: configuration for configuration in configurations}
    # scikit-learn tells its last epoch alone; it has run them all.
    epochs = {
        number: job.epochs if program == "sklearn_mlp" else len(entry["curve"]) for number, entry in trials.items()
    }
    last = max((entry["ended"] for entry in trials.values()), default=ready)
    return SideRun(
        side=side,
        n_trials=len(trials),
        wall_s=watched.wall_s,
        window_s=last - ready,
        best=best_of([entry["curve"] for entry in trials.values()]),
        flop=sum(flop_of_epoch(by_number[number].hyperparameters, dataset) * count for number, count in epochs.items()),
        epochs=sum(epochs.values()),
        peak_mb=watched.peak_mb,
        load_before=watched.load_before,
        reached_s=reached,
        note=f"stopped {watched.stopped}" if watched.stopped else "",
    )


def peer_environment() -> dict[str, str]:
    """Return what a peer's process needs in its environment: our networks, and less chatter."""
    caviar = importlib.util.find_spec("caviar")
    assert caviar is not None
    assert caviar.origin is not None
    package = Path(caviar.origin).parent.parent
    return {"PYTHONPATH": f"{_BENCHMARKS}:{package}", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def is_installed(python: Path, package: str) -> bool:
    """Say whether an interpreter finds a package."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def peer_versions(python: Path, distributions: Sequence[str]) -> dict[str, str | None]:
    """Return the versions that an interpreter has of these distributions; None of what it lacks."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def v(n):\n try: return m.version(n)\n except m.PackageNotFoundError: return None\n"
        "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *distributions], check=True, capture_output=True, text=True)
    versions: dict[str, str | None] = json.loads(done.stdout)
    return versions
