"""Checkpoints: a running trial's whole state in a file, so that another worker goes on with it."""

import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .places import Place, remove_tree, write_at
from .remote import RemotePath

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

    The study's directory is created with the first one. It may stand in a store that answers slowly: what this worker
    knows of a trial's checkpoints is not asked again.
    """

    def __init__(self, directory: Place) -> None:
        self._directory = directory
        self._known: dict[int, set[int]] = {}  # of a store elsewhere: trial → epochs, as this worker has left them

    def save(self, number: int, checkpoint: Checkpoint, *, keep: int = KEPT) -> None:
        """Write the checkpoint of a trial, by its number, and remove those of later epochs and all but the last ones.

        A trial that went back has no later epochs any more.

        Raises:
            OSError: If it cannot be written; the checkpoints before are untouched.
        """
        write_at(self._place(number, checkpoint.epochs), _encode(checkpoint))
        if isinstance(self._directory, RemotePath):
            known = self._known.setdefault(number, set())
            known.add(checkpoint.epochs)
            there = sorted(known, reverse=True)
        else:
            there = self._epochs(number)
        later = [epochs for epochs in there if epochs > checkpoint.epochs]
        for other in [*later, *there[len(later) + keep :]]:
            try:
                self._place(number, other).unlink(missing_ok=True)
            except OSError:
                if not isinstance(self._directory, RemotePath):
                    raise
            else:
                self._known.get(number, set()).discard(other)

    def load(self, number: int, *, epochs: int | None = None) -> Checkpoint | None:
        """Return a trial's last whole checkpoint, or the last one of at most so many epochs; None where it has none.

        A store that cannot be reached has none: a warning says so.
        """
        try:
            there = self._epochs(number)
        except OSError as error:
            _logger.warning("The checkpoints of trial %d cannot be read, so it starts again: %s", number, error)
            return None
        for done in there:
            if epochs is not None and done > epochs:
                continue
            place = self._place(number, done)
            try:
                return _decode(place.read_bytes())
            except (OSError, ValueError, KeyError) as error:
                _logger.warning("The checkpoint %s is torn (%s); the one before it is used.", place, error)
        return None

    def epochs(self, number: int) -> list[int]:
        """Return after which epochs a trial has checkpoints, ascending."""
        return self._epochs(number)[::-1]

    def remove(self, number: int) -> None:
        """Remove a trial's checkpoints; a trial without any is left alone."""
        self._known.pop(number, None)
        remove_tree(self._directory / str(number))

    def forget(self, number: int) -> None:
        """Remove the checkpoints of a trial that has ended; a store that is away keeps them until the run's end.

        In a store elsewhere, so are those that this worker has neither written nor read: most trials have none.
        """
        if isinstance(self._directory, RemotePath) and not self._known.get(number):
            return
        try:
            self.remove(number)
        except OSError as error:
            _logger.warning("The checkpoints of trial %d could not be removed: %s", number, error)

    def remove_all(self) -> None:
        """Remove the study's checkpoints."""
        self._known.clear()
        remove_tree(self._directory)

    def numbers(self) -> list[int]:
        """Return the trials that have a directory here, ascending."""
        return sorted(int(name) for name in _names(self._directory) if name.isdecimal())

    def _place(self, number: int, epochs: int) -> Place:
        return self._directory / str(number) / f"{epochs:08d}.ckpt"

    def _epochs(self, number: int) -> list[int]:
        """Return after which epochs a trial has checkpoints, the latest first."""
        names = (name.partition(".") for name in _names(self._directory / str(number)))
        there = sorted((int(stem) for stem, _, suffix in names if suffix == "ckpt" and stem.isdecimal()), reverse=True)
        if isinstance(self._directory, RemotePath):
            self._known[number] = set(there)
        return there


def _names(place: Place) -> list[str]:
    if isinstance(place, RemotePath):
        return place.names()
    return [path.name for path in place.iterdir()] if place.is_dir() else []


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
