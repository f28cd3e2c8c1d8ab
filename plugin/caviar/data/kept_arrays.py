"""Decoded splits on disk, since TFDS takes 2.5 s to read 60,000 small images, in each worker of each study."""

import hashlib
import json
import logging
import os
import time
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..atomic_write import written_whole

_logger = logging.getLogger(__name__)

#: A larger split is read anew each time.
MOST_BYTES: Final = 1 << 30
#: Of all splits together; those read longest ago are removed first.
MOST_BYTES_IN_ALL: Final = 4 << 30
_UNUSED_S: Final = 30 * 86_400.0


class Arrays(NamedTuple):
    """A split: its features and labels, examples on axis 0."""

    features: NDArray[Any]
    labels: NDArray[Any]


class KeptArrays:
    """A directory of decoded splits, created with the first of them.

    A file may be missing, cut off or damaged at any time. Its parts carry checksums, and a split that cannot be loaded
    is read from its source. Saving a split removes those that were not read for a month.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, key: str) -> Arrays | None:
        """Return the split kept under a key, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
                arrays = Arrays(features=parts["features"], labels=parts["labels"])
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _logger.debug("No decoded split can be read from %s, so its source is read: %s", path, error)
            return None
        return arrays

    def save(self, key: str, arrays: Arrays) -> None:
        """Keep a split if it is not too large and has plain numbers or texts; if the disk is full, do without."""
        n_bytes = sum(array.nbytes for array in arrays)
        if n_bytes > MOST_BYTES or any(array.dtype.hasobject for array in arrays):
            return
        path = self._path(key)
        try:
            self._make_way(n_bytes)
            with written_whole(path, durable=False) as beside:
                np.savez(beside, features=arrays.features, labels=arrays.labels)
        except OSError as error:
            _logger.debug("A decoded split could not be kept in %s: %s", path, error)

    def _make_way(self, n_bytes: int) -> None:
        """Remove what was not read for a month, then what was read longest ago, until so much fits."""
        kept = [(path.stat(), path) for path in self._directory.glob("*.npz")]
        for facts, path in sorted(kept, key=lambda each: -each[0].st_mtime):
            n_bytes += facts.st_size
            if n_bytes > MOST_BYTES_IN_ALL or time.time() - facts.st_mtime > _UNUSED_S:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def key_of(directory: Path, *parts: str) -> str:
    """Return a key that changes with the files in and below a directory, and with the other parts given.

    It contains each file's name, size and time of change and, since a copy may keep these, the time when the file
    system last saw it change.
    """
    facts = sorted((str(path.relative_to(directory)), path.stat()) for path in directory.rglob("*"))
    files = [(name, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns) for name, fact in facts]
    return json.dumps([str(directory.resolve()), files, parts])
