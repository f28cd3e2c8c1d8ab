"""Running our own side as its user would: ``caviar run`` on a study file, from an empty home."""

import contextlib
import dataclasses
import json
import sqlite3
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from caviar.data.dataset import Dataset
from caviar.spec import parse_spec
from harness.configurations import flop_of_epoch
from harness.side import Outcome, SideRun, Skipped, best_of, read_timings
from harness.watch import run_watched
from peers.job import HALVING, Configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study of ours.

    Attributes:
        dataset: The name or directory that the study file gives.
        trials: Its budget.
        seed: Its seed.
        epochs: Of a trial that is not pruned.
        pruning: Whether successive halving prunes.
        space: The ``[space]`` table as TOML; empty for the default space.
    """

    dataset: str
    trials: int
    seed: int
    epochs: int
    pruning: bool = False
    space: str = ""

    def toml(self, name: str) -> str:
        """Return the study file."""
        options = ", ".join(f"{key} = {value}" for key, value in HALVING.items())
        pruner = ['pruner = "successive_halving"', f"pruner_options = {{ {options} }}"]
        return "\n".join(
            [
                f"name = {json.dumps(name)}",
                f"seed = {self.seed}",
                f"data = {{ dataset = {json.dumps(self.dataset)} }}",
                f"objective = {{ epochs = {self.epochs} }}",
                "[search]",
                f"trials = {self.trials}",
                'sampler = "random"',
                *(pruner if self.pruning else ['pruner = "none"']),
                *(["[space]", self.space] if self.space else []),
            ]
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """How our side is run.

    Attributes:
        trainer: ``fleet`` or ``solo``.
        workers: Processes that share the study.
        home: An existing or new home; what earlier runs left below it is used again.
        timeout_s: Seconds after which it is stopped.
        target: Validation accuracy at which it is stopped, or None.
        cache: What is kept between studies beside the home, traced programs say; None for one of the home's own.
    """

    trainer: str
    workers: int
    home: Path
    timeout_s: float
    target: float | None = None
    cache: Path | None = None

    @property
    def side(self) -> str:
        """Its name in the tables."""
        return f"caviar {self.trainer}, {self.workers} worker{'s' * (self.workers > 1)}"


def run_caviar(
    command: Command, study: Study, *, configurations: Sequence[Configuration], dataset: Dataset, side: str = ""
) -> Outcome:
    """Run a study of ours, and check that it trained the configurations that the peers do.

    Args:
        command: How it is run.
        study: What is run.
        configurations: What its first trials must be; empty where nobody else trains the same.
        dataset: What it trains on.
        side: Its name in the tables, where it is not the command's.
    """
    side, name = side or command.side, f"throughput-{study.seed}-{study.trials}"
    command.home.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="study", dir=command.home.parent))
    file, database = directory / "study.toml", command.home / "optuna.db"
    file.write_text(study.toml(name), encoding="utf-8")
    options = ["--trainer", command.trainer, "--workers", command.workers, "--home", command.home, "--json"]
    target = command.target
    watched = run_watched(
        [sys.executable, "-m", "caviar", "run", file, *map(str, options)],
        log=directory / "log",
        environment={"XDG_CACHE_HOME": str(command.cache or command.home.parent / f"{command.home.name}-cache")},
        timeout_s=command.timeout_s,
        until=lambda: target is not None and best_reported(database) >= target,
    )
    if watched.exit_code != 0 and watched.stopped is None:
        return Skipped(side=side, reason=f"exit code {watched.exit_code}: {watched.last_line}")
    trials = finished_trials(database, name)
    check_configurations(trials, configurations)
    space = parse_spec(tomllib.loads(file.read_text(encoding="utf-8"))).space
    flop = sum(
        flop_of_epoch(space.hyperparameters(trial.params), dataset) * len(trial.intermediate_values) for trial in trials
    )
    reached = target is not None and best_reported(database) >= target
    return SideRun(
        side=side,
        n_trials=len(trials),
        wall_s=watched.wall_s,
        window_s=window_s(trials),
        best=best_of([list(trial.intermediate_values.values()) for trial in trials]),
        flop=flop,
        epochs=sum(len(trial.intermediate_values) for trial in trials),
        peak_mb=watched.peak_mb,
        load_before=watched.load_before,
        timings=read_timings(command.home, since=watched.begun, n_workers=command.workers),
        reached_s=watched.wall_s if reached else None,
        note=f"stopped, {watched.stopped}" if watched.stopped else "",
    )


def finished_trials(database: Path, study: str) -> list[FrozenTrial]:
    """Return the study's trials that ended as they should, in the order of their numbers."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    loaded = optuna.load_study(study_name=study, storage=storage)
    return loaded.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def check_configurations(trials: Sequence[FrozenTrial], configurations: Sequence[Configuration]) -> None:
    """Make sure that both sides trained the same.

    Raises:
        RuntimeError: If a trial's parameters are not those of the list.
    """
    for trial, configuration in zip(sorted(trials, key=lambda each: each.number), configurations, strict=False):
        if trial.number != configuration.number or trial.params != configuration.params:
            raise RuntimeError(
                f"Trial {trial.number} has {trial.params}, but the list's {configuration.number} has "
                f"{configuration.params}: the comparison would be void."
            )


def window_s(trials: Sequence[FrozenTrial]) -> float:
    """Return the seconds from the start of the first trial to the end of the last."""
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete is not None]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0


def best_reported(database: Path) -> float:
    """Return the best value that any trial has reported so far, 0 before the first; of a database that is in use."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (value,) = connection.execute("SELECT MAX(intermediate_value) FROM trial_intermediate_values").fetchone()
    except sqlite3.OperationalError:  # not made yet, or locked for a moment
        return 0.0
    return float(value or 0.0)
