"""Checks of the arrays that a source returns: features, labels and classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .precision import narrowed

Features = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int32]

#: The square of a larger value, and with it a variance, overflows.
LARGEST_FEATURE = 1e150


def check_features(features: Any, *, where: str) -> Features:
    """Return flat vectors (n, k) or images (n, height, width[, channels]) as the trainers take them.

    Images of uint8 stay as they are. Everything else becomes float32, or float64 if a column needs it (`narrowed`).
    Messages begin with ``where``: ``Data set 'x', train split``.

    Raises:
        DataError: If the features have another shape, are not numbers, have no rows, or are not all finite.
    """
    array = _to_array(features, what="features", where=where)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_) or np.iscomplexobj(array):
        raise DataError(f"{where}: features must be numbers, but their dtype is {array.dtype}.")
    if array.ndim not in (2, 3, 4):
        raise DataError(
            f"{where}: features must be flat vectors (n, k) or images (n, height, width[, channels]), but have shape"
            f" {array.shape}."
        )
    if 0 in array.shape:
        raise DataError(f"{where}: features are empty, with shape {array.shape}.")
    if array.dtype == np.uint8 and array.ndim > 2:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        limit = min(LARGEST_FEATURE, float(np.finfo(array.dtype).max))
        fits = (np.abs(array) <= limit).reshape(len(array), -1).all(axis=1)  # NaN does not fit
        if not fits.all():
            bad = np.flatnonzero(~fits)
            raise DataError(
                f"{where}: features must be finite and at most {LARGEST_FEATURE:g} in size, but {len(bad)} of"
                f" {len(array)} examples have NaN or infinite values, or larger ones, the first at position {bad[0]}."
                " Drop these examples, or fill in their values."
            )
    return narrowed(array, where=where)


def check_labels(labels: Any, *, where: str) -> NDArray[Any]:
    """Return labels as integers, booleans or strings of shape (n,).

    Raises:
        DataError: If they are anything else, such as fractions or several labels per example.
    """
    array = _to_array(labels, what="labels", where=where)
    if array.ndim == 2 and array.shape[1] == 1:  # as Keras' own data sets have them
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{where}: each example needs one label, but labels have shape {array.shape}."
            " Several labels an example are not supported; turn one-hot labels into integers with argmax(axis=1)."
        )
    if array.dtype.kind == "O":
        array = _object_labels(array, where=where)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind not in "biuU":
        raise DataError(
            f"{where}: labels must be integers or strings, but their dtype is {array.dtype}. Regression is not"
            " supported; if these are classes, convert them to integers."
        )
    return array


def encode_labels(labels: NDArray[Any], *, known: NDArray[Any], where: str) -> Labels:
    """Return each label's position among the known ones, which are sorted; raise DataError for an unknown label."""
    if labels.dtype.kind == "U" or known.dtype.kind == "U":
        labels, known = labels.astype(np.str_), known.astype(np.str_)
    positions = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    if (unknown := known[positions] != labels).any():
        raise DataError(
            f"{where}: label {labels[unknown][0].item()!r} is none of the {len(known)} classes of the training data."
        )
    return positions.astype(np.int32)


def check_range(labels: NDArray[Any], *, n_classes: int, where: str) -> Labels:
    """Return labels as int32; raise DataError if one is outside [0, n_classes). TFDS marks withheld labels with −1."""
    if (outside := (labels < 0) | (labels >= n_classes)).any():
        raise DataError(
            f"{where}: labels must be in 0 to {n_classes - 1}, but {int(outside.sum())} of {len(labels)} are not, the"
            f" first of them {labels[outside][0].item()}. A split whose labels are withheld (−1) cannot be used."
        )
    return labels.astype(np.int32)


def check_classes(labels: Labels, *, class_names: Sequence[str], where: str) -> None:
    """Raise DataError unless there are at least two classes, and two examples of each class that occurs.

    TFDS may declare a class that no example has, as in ``emnist/letters``; that is allowed.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    if np.count_nonzero(counts) < 2:
        (only,) = np.flatnonzero(counts)
        raise DataError(f"{where}: at least two classes are needed, but every label is {class_names[int(only)]!r}.")
    if (single := np.flatnonzero(counts == 1)).size:
        raise DataError(
            f"{where}: every class needs at least 2 examples, one to learn from and one to validate on, but class"
            f" {class_names[int(single[0])]!r} has 1. Add examples, or drop the class or merge it with another."
        )


def _to_array(values: Any, *, what: str, where: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: {what} must have one shape, but are ragged ({error}).") from error


def _object_labels(array: NDArray[Any], *, where: str) -> NDArray[Any]:
    kinds = {type(value) for value in array}
    if kinds <= {str, np.str_}:
        return array.astype(np.str_)
    if kinds <= {bytes, np.bytes_}:
        return np.array([value.decode("utf-8") for value in array], dtype=np.str_)
    if all(issubclass(kind, (int, np.integer)) for kind in kinds):
        return array.astype(np.int64)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise DataError(f"{where}: labels must be integers or strings, all of one kind, but they are of types {names}.")
