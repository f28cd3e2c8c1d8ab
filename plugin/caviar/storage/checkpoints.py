"""Checkpoints: a running trial's whole state on disk, so that another worker goes on with it."""

import dataclasses
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..atomic_write import write_whole

_logger = logging.getLogger(__name__)
_MAGIC = b"caviar-checkpoint-1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_NOTES = "caviar.notes"

#: Checkpoints that a trial keeps: a torn one has one before it.
KEPT: Final = 2
#: Checkpoints that a watched trial keeps, one an epoch: so far it can go back.
KEPT_WATCHED: Final = 50


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """What a trial needs to go on.

    Attributes:
        epochs: Epochs done.
        state: A trainer's ``lane_state``: weights, optimizer slots, batch-norm statistics, random state, as arrays.
        notes: What the search keeps beside it, as JSON takes it: curves, seconds trained.
    """

    epochs: int
    state: Mapping[str, NDArray[np.generic]]
    notes: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one study's trials: a directory a trial, a file a checkpoint, the last ones kept.

    A file appears whole or not at all, and begins with the SHA-256 of the rest: a torn one is noticed, and the one
    before is used. Nothing in it is ever executed.

    The study's directory is created with the first one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, number: int, checkpoint: Checkpoint, *, keep: int = KEPT) -> None:
        """Write the checkpoint of a trial, by its number, and remove those of later epochs and all but the last ones.

        A trial that went back has no later epochs any more.

        Raises:
            OSError: If it cannot be written; the checkpoints before are untouched.
        """
        write_whole(self._trial_directory(number) / f"{checkpoint.epochs:08d}.ckpt", _encode(checkpoint))
        paths = self._paths(number)
        later = [path for path in paths if int(path.stem) > checkpoint.epochs]
        for other in [*later, *paths[len(later) + keep :]]:
            other.unlink(missing_ok=True)

    def load(self, number: int, *, epochs: int | None = None) -> Checkpoint | None:
        """Return a trial's last whole checkpoint, or the last one of at most so many epochs; None where it has none."""
        for path in self._paths(number):
            if epochs is not None and int(path.stem) > epochs:
                continue
            try:
                return _decode(path.read_bytes())
            except (OSError, ValueError, KeyError) as error:
                _logger.warning("The checkpoint %s is torn (%s); the one before it is used.", path, error)
        return None

    def epochs(self, number: int) -> list[int]:
        """Return after which epochs a trial has checkpoints, ascending."""
        return sorted(int(path.stem) for path in self._paths(number))

    def remove(self, number: int) -> None:
        """Remove a trial's checkpoints; a trial without any is left alone."""
        shutil.rmtree(self._trial_directory(number), ignore_errors=True)

    def remove_all(self) -> None:
        """Remove the study's checkpoints."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def numbers(self) -> list[int]:
        """Return the trials that have a directory here, ascending."""
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())

    def _trial_directory(self, number: int) -> Path:
        return self._directory / str(number)

    def _paths(self, number: int) -> list[Path]:
        """Return a trial's checkpoints, the latest first."""
        return sorted(self._trial_directory(number).glob("*.ckpt"), reverse=True)


def _encode(checkpoint: Checkpoint) -> bytes:
    notes = json.dumps({"epochs": checkpoint.epochs, "notes": dict(checkpoint.notes)}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, **{_NOTES: np.frombuffer(notes, np.uint8)}, **checkpoint.state)  # type: ignore[arg-type]  # stubs
    payload = buffer.getvalue()
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def _decode(contents: bytes) -> Checkpoint:
    if not contents.startswith(_MAGIC):
        raise ValueError("it is not a checkpoint of this version")
    digest, payload = contents[len(_MAGIC) :][:_DIGEST_BYTES], contents[len(_MAGIC) + _DIGEST_BYTES :]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its contents do not match their SHA-256")
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        state = {name: arrays[name] for name in arrays.files}
    notes = json.loads(state.pop(_NOTES).tobytes())
    return Checkpoint(epochs=notes["epochs"], state=state, notes=notes["notes"])
