"""One interface to TFDS data sets and to the user's functions, tables, arrays and folders of images."""

import functools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

from ..errors import DataError, SpecError
from ..imports import import_callable, users_code
from ..spec import DataSpec
from ..user_cache import sources_digest, user_cache
from .images import class_folders, list_images, read_images
from .kept_arrays import Arrays, KeptArrays, key_of
from .names import FileName, FunctionName, parse_name
from .tables import read_table, take_labels


class Source(NamedTuple):
    """Examples to train and test on, not yet checked, with labels not yet encoded."""

    read_train: Callable[[], tuple[Any, Any]]  # returns features, an array or a DataFrame, and labels
    read_test: Callable[[], tuple[Any, Any]] | None  # None if the source has no test split
    class_names: tuple[str, ...] | None = None  # of the classes 0, 1, …; None if the labels name the classes


def open_source(data: DataSpec, *, data_dir: Path | None = None) -> Source:
    """Return the source that a data set's description means; prepare it if necessary.

    Raises:
        DataError: If there is none, it cannot be prepared, or the description has a key for data of another kind.
    """
    parsed = parse_name(data.dataset)
    kind = parsed.kind if isinstance(parsed, FileName) else None
    for key, needed, allowed in (
        ("label", "table", "tables"),
        ("test", "table", "tables"),
        ("image_size", "images", "directories of images"),
    ):
        if kind != needed and getattr(data, key):
            raise DataError(f"data.{key} is for {allowed}, and {data.dataset!r} is none. Remove it.")
    if isinstance(parsed, FunctionName):
        return _call_function(parsed.path)
    if isinstance(parsed, FileName) and kind == "table":
        read_train = functools.partial(_read_table, parsed.path, data.label, part="train")
        if data.test is None:
            return Source(read_train, None)
        return Source(read_train, functools.partial(_read_table, Path(data.test), data.label, part="test"))
    if isinstance(parsed, FileName) and kind == "arrays":
        return _open_arrays(parsed.path)
    if isinstance(parsed, FileName) and kind == "images":
        return _open_images(parsed.path, size=data.image_size, color=data.image_color)
    from .prepare import prepare_dataset  # these two bring TFDS
    from .prepared import PreparedDataset

    prepared = PreparedDataset(prepare_dataset(data.dataset, data_dir=data_dir), kept=_kept_arrays())
    read_test = None if prepared.n_test is None else prepared.read_test
    return Source(prepared.read_train, read_test, prepared.columns().class_names)


def _call_function(path: str) -> Source:
    """Call the user's function, once; it returns ``((x_train, y_train), (x_test, y_test))`` or ``(x, y)``."""
    where = f"Data set {path!r}"
    try:
        function = import_callable(path, what="Data set", takes=())
        with users_code(f"{where}: the function"):
            result = function()
    except SpecError as error:
        raise DataError(str(error)) from error
    if not (isinstance(result, (tuple, list)) and len(result) == 2):
        kind = f"{type(result).__name__} of {len(result)}" if hasattr(result, "__len__") else type(result).__name__
        raise DataError(
            f"{where}: the function must return ((x_train, y_train), (x_test, y_test)) or (x, y), but it returned"
            f" {kind}."
        )
    # Tuples only: [[1, 2], [3, 4]] may be two examples.
    if not all(isinstance(part, tuple) and len(part) == 2 for part in result):
        return Source(lambda: (result[0], result[1]), None)
    train_shape, test_shape = (np.shape(features)[1:] for features, _ in result)
    if train_shape != test_shape:
        raise DataError(
            f"{where}: examples of train and test must have one shape, but have {train_shape} and {test_shape}."
        )
    return Source(lambda: result[0], lambda: result[1])


def _read_table(path: Path, label: str | None, *, part: str) -> tuple[Any, Any]:
    path = path.expanduser()
    return take_labels(read_table(path), label, where=f"Table {str(path)!r}, {part} split")


def _open_arrays(path: Path) -> Source:
    """Open an ``.npz`` file with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.lower(): file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"File {str(path)!r} cannot be read as arrays: {error}") from error
    if {"x_train", "y_train"} <= arrays.keys():
        has_test = {"x_test", "y_test"} <= arrays.keys()
        read_test = (lambda: (arrays["x_test"], arrays["y_test"])) if has_test else None
        return Source(lambda: (arrays["x_train"], arrays["y_train"]), read_test)
    if {"x", "y"} <= arrays.keys():
        return Source(lambda: (arrays["x"], arrays["y"]), None)
    raise DataError(
        f"File {str(path)!r} must have the arrays x and y, or x_train, y_train, x_test and y_test, but has "
        f"{', '.join(sorted(arrays)) or 'none'}."
    )


def _open_images(directory: Path, *, size: tuple[int, int] | None, color: str) -> Source:
    """Open a directory with a folder of images for each class, perhaps below ``train`` and ``test``."""
    if size is None:
        raise DataError(
            f"Directory {str(directory)!r} has images. Say to which size they are scaled: "
            "data.image_size = 32, or [height, width]."
        )
    train, test = directory / "train", directory / "test"
    is_divided = train.is_dir() and bool(class_folders(train))
    train = train if is_divided else directory
    class_names = tuple(folder.name for folder in class_folders(train))

    def read(part: Path) -> Arrays:
        names = [folder.name for folder in class_folders(part)]
        if unknown := [name for name in names if name not in class_names]:
            raise DataError(f"Directory {str(part)!r} has the class {unknown[0]!r}, which training has not.")
        key = key_of(part, *class_names, str(size), color, sources_digest("data"), str(PIL.__version__))
        kept = _kept_arrays().load(key)
        if kept is None:
            paths, labels = list_images(part, class_names)
            kept = Arrays(features=read_images(paths, size=size, color=color), labels=labels)
            _kept_arrays().save(key, kept)
        return kept

    has_test = is_divided and test.is_dir() and bool(class_folders(test))
    return Source(lambda: read(train), (lambda: read(test)) if has_test else None, class_names)


def _kept_arrays() -> KeptArrays:
    return KeptArrays(user_cache() / "arrays")
