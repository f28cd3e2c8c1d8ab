"""What data sets there are, and which are prepared."""

import dataclasses
import logging
from pathlib import Path

from ..errors import DataError
from .names import data_root, find_all_prepared
from .prepared import PreparedDataset
from .registry import known_names

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A data set that a study can name. Facts that only reading its records would tell are None."""

    name: str  # TFDS', with the config where there is one
    prepared: bool  # whether it can be loaded at once
    directory: Path | None = None  # where it is prepared; of several versions the newest
    n_train: int | None = None  # examples to train on, validation not yet cut off
    n_test: int | None = None  # None also where the source has no such split, and a fifth will be cut off
    n_classes: int | None = None
    feature_shape: tuple[int, ...] | None = None  # None also where it is not fit for classification


#: Our own data set, which is prepared on first use.
_DIGITS = DatasetEntry(name="digits", prepared=False, n_train=1437, n_test=360, n_classes=10, feature_shape=(8, 8, 1))


def list_datasets(data_dir: Path | None = None) -> list[DatasetEntry]:
    """Return every data set that TFDS or this package has a builder for, and every one prepared in the directory.

    No data set is read, and no server is asked. TFDS does not say which task a data set is for, so no classifier can
    use some of these. Prepared data sets come first, then the others, each sorted by name. ``data_dir`` is that of
    `load_dataset`.
    """
    prepared = [_describe(str(name), directory) for name, directory in find_all_prepared(data_root(data_dir))]
    others = sorted({*known_names()} - {entry.name for entry in prepared})
    return prepared + [_DIGITS if name == "digits" else DatasetEntry(name=name, prepared=False) for name in others]


def _describe(name: str, directory: Path) -> DatasetEntry:
    entry = DatasetEntry(name=name, prepared=True, directory=directory)
    try:
        source = PreparedDataset(directory)
        entry = dataclasses.replace(entry, n_train=source.n_train, n_test=source.n_test)
        columns = source.columns()
    except DataError as error:  # it is listed all the same; loading it says what is wrong
        _logger.info("%s", error)
        return entry
    n_classes = len(columns.class_names) if columns.class_names else None
    return dataclasses.replace(entry, n_classes=n_classes, feature_shape=columns.feature_shape)
