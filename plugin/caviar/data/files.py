"""Data sets in files of the user's: tables, ``.npz`` files of arrays, and folders of images."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..user_cache import sources_digest, user_cache
from .images import class_folders, list_images, read_images
from .kept_arrays import Arrays, KeptArrays
from .tables import read_table, take_labels


class TableSource:
    """A CSV or Parquet file, and perhaps another one to test on.

    Args:
        path: The table to train on.
        label: The column that has the classes, or None, which is refused with what there is.
        test: A table with the same columns to test on, or None.

    Raises:
        DataError: If it cannot be read, or there is no such column.
    """

    class_names: None = None  # the labels that occur name the classes

    def __init__(self, path: Path, *, label: str | None, test: Path | None) -> None:
        self._label, self._test = label, test
        self._train = self._read(path, part="train split")

    @property
    def has_test(self) -> bool:
        """Whether a table to test on was given."""
        return self._test is not None

    def read_train(self) -> tuple[Any, Any]:
        """Return features, a DataFrame, and labels to train on."""
        return self._train

    def read_train_labels(self) -> Any:
        """Return the labels to train on."""
        return self._train[1]

    def read_test(self) -> tuple[Any, Any]:
        """Read the table to test on."""
        assert self._test is not None, "look at has_test first"
        return self._read(self._test, part="test split")

    def _read(self, path: Path, *, part: str) -> tuple[Any, Any]:
        return take_labels(read_table(path), self._label, where=f"Table {str(path)!r}, {part}")


class ArraysFile:
    """An ``.npz`` file of arrays: ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Raises:
        DataError: If it cannot be read, or has other arrays.
    """

    class_names: None = None  # the labels that occur name the classes

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name.lower(): file[name] for name in file.files}
        except FileNotFoundError as error:
            raise DataError(f"There is no file {str(path)!r}.") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"File {str(path)!r} cannot be read as arrays: {error}") from error
        self._arrays = arrays
        names = set(arrays)
        self._prefix = "_train" if {"x_train", "y_train"} <= names else ""
        if not self._prefix and not {"x", "y"} <= names:
            raise DataError(
                f"File {str(path)!r} must have the arrays x and y, or x_train, y_train, x_test and y_test, but has "
                f"{', '.join(sorted(names)) or 'none'}."
            )

    @property
    def has_test(self) -> bool:
        """Whether there are examples to test on."""
        return bool(self._prefix) and {"x_test", "y_test"} <= set(self._arrays)

    def read_train(self) -> tuple[Any, Any]:
        """Return features and labels to train on."""
        return self._arrays[f"x{self._prefix}"], self._arrays[f"y{self._prefix}"]

    def read_train_labels(self) -> Any:
        """Return the labels to train on."""
        return self._arrays[f"y{self._prefix}"]

    def read_test(self) -> tuple[Any, Any]:
        """Return features and labels to test on."""
        return self._arrays["x_test"], self._arrays["y_test"]


class ImageFolder:
    """A directory with a folder of images for each class, perhaps below ``train`` and ``test``.

    The decoded images are kept in the user's cache.

    Args:
        directory: The directory.
        size: Height and width to scale them to, or None, which is refused.
        color: ``rgb`` or ``grayscale``.

    Raises:
        DataError: If there are no images, or no size is given.
    """

    def __init__(self, directory: Path, *, size: tuple[int, int] | None, color: str) -> None:
        if size is None:
            raise DataError(
                f"Directory {str(directory)!r} has images. Say to which size they are scaled: "
                "data.image_size = 32, or [height, width]."
            )
        self._directory, self._size, self._color = directory, size, color
        train, test = directory / "train", directory / "test"
        self._train = train if train.is_dir() and class_folders(train) else directory
        self._test = test if self._train == train and test.is_dir() and class_folders(test) else None
        self.class_names = tuple(folder.name for folder in class_folders(self._train))
        self._kept = KeptArrays(user_cache() / "arrays")

    @property
    def has_test(self) -> bool:
        """Whether there is a folder to test on."""
        return self._test is not None

    def read_train(self) -> tuple[Any, Any]:
        """Read images and labels to train on."""
        return self._read(self._train)

    def read_train_labels(self) -> Any:
        """Return the labels to train on."""
        return list_images(self._train, self.class_names)[1]

    def read_test(self) -> tuple[Any, Any]:
        """Read images and labels to test on."""
        assert self._test is not None, "look at has_test first"
        unknown = [folder.name for folder in class_folders(self._test) if folder.name not in self.class_names]
        if unknown:
            raise DataError(f"Directory {str(self._test)!r} has the class {unknown[0]!r}, which training has not.")
        return self._read(self._test)

    def _read(self, directory: Path) -> Arrays:
        names = [name for name in self.class_names if (directory / name).is_dir()]
        paths, labels = list_images(directory, names)
        labels = np.array([self.class_names.index(names[label]) for label in labels], np.int32)
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        key = json.dumps([digest, self._size, self._color, sources_digest("data"), _pillow_version()])
        kept = self._kept.load(key)
        if kept is None:
            kept = Arrays(features=read_images(paths, size=self._size, color=self._color), labels=labels)
            self._kept.save(key, kept)
        return kept


def _pillow_version() -> str:
    import PIL

    return str(PIL.__version__)


def refuse_needless(given: Mapping[str, Any], allowed: str, *, name: str) -> None:
    """Refuse what the study file says of data of another kind.

    Args:
        given: Key → whether it is set.
        allowed: What the keys that are set are for.
        name: The data set's.

    Raises:
        DataError: Naming the first.
    """
    for key, is_set in given.items():
        if is_set:
            raise DataError(f"data.{key} is for {allowed}, and {name!r} is none. Remove it.")
