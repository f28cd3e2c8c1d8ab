"""What a peer is given and what it gives back; both as files, since a peer may live in an environment of its own."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """One trial's hyperparameters, as our sampler drew them.

    Attributes:
        number: The trial's number in our study.
        seed: From which the weights are drawn.
        params: As Optuna names and stores them.
        hyperparameters: As one thinks of them, ``caviar.space.SearchSpace.suggest``'s.
    """

    number: int
    seed: int
    params: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a peer does.

    Attributes:
        data: An npz file, see `Data`.
        results: A file of JSON lines, appended to as things happen.
        scratch: An empty directory for the peer's own files.
        epochs: Passes over the training split.
        configurations: The trials, in order; empty where the peer searches by itself.
        pruning: Whether hopeless trials end early, by successive halving where the peer has it.
        seed: Of a search of the peer's own.
        target: Validation accuracy at which a search of the peer's own ends.
    """

    data: Path
    results: Path
    scratch: Path
    epochs: int
    configurations: tuple[Configuration, ...]
    pruning: bool = False
    seed: int = 0
    target: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """The arrays of a data set.

    Shapes:
        train_features (n, *shape) and validation_features (m, *shape), float32, as the source has them;
        train_labels (n,) and validation_labels (m,), int32; mean and variance (*shape), float32, of train_features.
    """

    train_features: NDArray[np.float32]
    train_labels: NDArray[np.int32]
    validation_features: NDArray[np.float32]
    validation_labels: NDArray[np.int32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]

    @property
    def n_classes(self) -> int:
        """Classes of the data set."""
        return int(self.train_labels.max()) + 1


#: Successive halving as Optuna has it by default, for every side that prunes.
HALVING: Mapping[str, int] = {"min_resource": 1, "reduction_factor": 4}


def write_job(job: Job, path: Path) -> None:
    """Write a job to a JSON file."""
    path.write_text(json.dumps(dataclasses.asdict(job), default=str), encoding="utf-8")


def read_job(path: Path) -> Job:
    """Read a job that `write_job` wrote."""
    table = json.loads(path.read_text(encoding="utf-8"))
    table["configurations"] = tuple(Configuration(**entry) for entry in table["configurations"])
    return Job(**{**table, **{key: Path(table[key]) for key in ("data", "results", "scratch")}})


def write_data(data: Data, path: Path) -> None:
    """Write the arrays to an npz file."""
    arrays: dict[str, Any] = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    np.savez(path, **arrays)


def read_data(path: Path) -> Data:
    """Read the arrays that `write_data` wrote."""
    with np.load(path) as arrays:
        return Data(**{name: arrays[name] for name in arrays.files})


def record_ready(job: Job) -> None:
    """Note that imports and loading are over and the first trial begins."""
    _append(job, {"ready": time.time()})


def record_trial(job: Job, number: int, curve: Sequence[float]) -> None:
    """Note that a trial has ended; its curve is the validation accuracy by epoch, empty where it diverged."""
    _append(job, {"trial": number, "ended": time.time(), "curve": [float(value) for value in curve]})


def record_reached(job: Job, value: float) -> None:
    """Note that the target has been reached."""
    _append(job, {"reached": float(value), "at": time.time()})


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return what a peer has noted so far, in order."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _append(job: Job, entry: Mapping[str, Any]) -> None:
    with job.results.open("a", encoding="utf-8") as file:  # one short write a trial: appends do not interleave
        file.write(json.dumps(entry) + "\n")
