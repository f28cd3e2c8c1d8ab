"""Loading data sets and dividing them, for the search, for the race over several cuts, and for the refit."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpecError
from ..spec import DataSpec, StudySpec
from .arrays import check_classes, check_features, check_labels, check_range, encode_labels
from .columns import Kind, infer_kinds, odd_columns
from .dataset import Dataset, Split
from .preprocessing import Preprocessing
from .split import stratified_cut

#: Fixed: if the test split moved with a study's seed, one study would train on another's test examples.
_TEST_SEED: Final = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Examples: checked arrays, or a table whose columns are not yet numbers."""

    features: Any  # an array, or a DataFrame
    labels: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp]) -> "Examples":
        """Return the examples of these rows, in this order."""
        features = self.features.iloc[rows] if _is_frame(self.features) else self.features[rows]
        return Examples(features=features, labels=self.labels[rows])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A data set whose test split is set aside."""

    name: str  # the name it was loaded by
    class_names: tuple[str, ...]  # in the order of the labels
    known: NDArray[Any] | None  # their labels in the data; None if the labels are 0, 1, … and the source names them
    examples: Examples  # to learn from
    kinds: Mapping[str, Kind] | None  # of a table's columns
    held_out: Examples | Callable[[], tuple[Any, Any]] | None = None  # to test on; or returns their x and y

    @property
    def label_type(self) -> Literal["text", "integer", "boolean"]:
        """The type of the labels in the data."""
        kind = "U" if self.known is None else self.known.dtype.kind
        return "text" if kind == "U" else "boolean" if kind == "b" else "integer"

    def cut(self, *, validation_fraction: float, seed: int) -> Dataset:
        """Divide the examples into train and validation, stratified; fit a table's preprocessing on train.

        The arguments are those of :func:`load_dataset`.

        Raises:
            SpecError: If one side would have no example.
        """
        labels = self.examples.labels
        least = 1 / len(labels)
        if not least <= validation_fraction <= 1 - least:
            raise SpecError(
                f"validation_fraction must leave at least one of the {len(labels)} examples on each side, "
                f"so it must lie between {least:.2g} and {1 - least:.6g}, but got {validation_fraction!r}."
            )
        stays, cut_off = stratified_cut(labels, fraction=validation_fraction, seed=seed)
        train = self.examples.take(stays)
        preprocessing = self._fit(train)
        return Dataset(
            name=self.name,
            class_names=self.class_names,
            train=self._split(train, preprocessing),
            validation=self._split(self.examples.take(cut_off), preprocessing),
            fingerprint=self.fingerprint,
            preprocessing=preprocessing,
        )

    def whole(self) -> tuple[Split, Preprocessing | None]:
        """Return all examples to learn from and, for a table, the preprocessing fitted on them."""
        preprocessing = self._fit(self.examples)
        return self._split(self.examples, preprocessing), preprocessing

    def test(self, preprocessing: Preprocessing | None) -> Split:
        """Read the test split; only the champion needs it, after the search.

        For a table, pass the preprocessing that was fitted on the examples to learn from.

        Raises:
            DataError: If there is none, or its labels are withheld or unknown in training.
        """
        if self.held_out is None:
            raise DataError(f"Data set {self.name!r} has no test split.")
        if isinstance(self.held_out, Examples):
            return self._split(self.held_out, preprocessing)
        x, y = self.held_out()
        where = f"Data set {self.name!r}, test split"
        examples = _encode(x, y, n_classes=len(self.class_names), known=self.known, where=where)
        return self._split(examples, preprocessing)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of features, labels and class names."""
        digest = hashlib.sha256()
        part: Any
        for part in (self.examples.features, self.examples.labels):
            if _is_frame(part):
                import pandas as pd

                digest.update(json.dumps([list(map(str, part.columns)), dict(self.kinds or {})]).encode())
                digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy("<u8").data)
            else:
                digest.update(f"{part.dtype.name}{part.shape}".encode())
                digest.update(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).data)
        digest.update(json.dumps(self.class_names).encode())
        return digest.hexdigest()

    def odd_columns(self) -> list[str]:
        """Return sentences about the columns of a table that look wrong; see `columns.odd_columns`."""
        return [] if self.kinds is None else odd_columns(self.examples.features, self.examples.labels, self.kinds)

    def _fit(self, examples: Examples) -> Preprocessing | None:
        if self.kinds is None:
            return None
        return Preprocessing.fit(examples.features, self.kinds, where=f"Data set {self.name!r}")

    def _split(self, examples: Examples, preprocessing: Preprocessing | None) -> Split:
        if preprocessing is None:
            return Split(features=examples.features, labels=examples.labels)
        features = preprocessing.transform(examples.features, where=f"Data set {self.name!r}")
        return Split(features=features, labels=examples.labels)


def open_data(data: DataSpec, *, data_dir: Path | None = None) -> Data:
    """Read a data set that a study file's ``[data]`` describes; its test split is not read.

    TFDS keeps data sets in ``data_dir``, as for `load_dataset`.

    Raises:
        DataError: If there is no such data set, it cannot be prepared, or it is not fit for classification.
    """
    from .sources import open_source

    source = open_source(data, data_dir=data_dir)
    where = f"Data set {data.dataset!r}, train split"
    x, y = source.read_train()
    opened = _data(data.dataset, x, y, class_names=source.class_names, columns=data.columns, where=where)
    opened = dataclasses.replace(opened, held_out=source.read_test)
    if source.read_test is None:
        examples = opened.examples
        stays, cut_off = stratified_cut(examples.labels, fraction=data.test_fraction, seed=_TEST_SEED)
        opened = dataclasses.replace(opened, examples=examples.take(stays), held_out=examples.take(cut_off))
        where += f" (after {data.test_fraction:.0%} were cut off to test on)"
    check_classes(opened.examples.labels, class_names=opened.class_names, where=where)
    return opened


def data_of(x: Any, y: Any, *, columns: Mapping[str, str], name: str) -> Data:
    """Return arrays or a DataFrame as a data set without a test split.

    Raises:
        DataError: If they are not fit for classification.
    """
    where = f"Data set {name!r}"
    data = _data(name, x, np.asarray(y), columns=columns, where=where)
    check_classes(data.examples.labels, class_names=data.class_names, where=where)
    return data


def load_dataset(
    name: str, *, validation_fraction: float = 0.2, seed: int = 0, data_dir: Path | None = None
) -> Dataset:
    """Load a classification data set, its train split divided into train and validation.

    Args:
        name: A TFDS name (``digits``, ``emnist/letters``, ``mnist:3.0.1``), the directory of a prepared TFDS data set,
            an ``.npz`` file, or ``package.module:function``, whose function returns
            ``((x_train, y_train), (x_test, y_test))`` as tuples, or ``(x, y)``. A TFDS data set that is not prepared is
            prepared, if its files are here or can be downloaded. For tables and images see `open_data`.
        validation_fraction: Share of the train split that validates, in (0, 1). A fifth keeps the score steady and
            leaves enough to learn from.
        seed: Decides which examples validate, at least 0.
        data_dir: Where TFDS keeps data sets; by default ``TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.

    Returns:
        The data set. Its test split is not read. If the source has none, the fifth of the examples that
        :func:`load_test_split` returns is left out.

    Raises:
        DataError: If there is no such data set, it cannot be prepared, or it is not fit for classification.
        SpecError: If ``validation_fraction`` or ``seed`` is outside its range.

    Example:
        >>> load_dataset("digits").train.features.shape  # doctest: +SKIP
        (1149, 8, 8, 1)
    """
    _check_cut(validation_fraction, seed)  # before anything is read
    data = open_data(DataSpec(dataset=name), data_dir=data_dir)
    return data.cut(validation_fraction=validation_fraction, seed=seed)


def load_study_dataset(spec: StudySpec) -> Dataset:
    """Load the data set of a study file and cut it as the file says; it raises what :func:`load_dataset` does."""
    return open_data(spec.data).cut(validation_fraction=spec.data.validation_fraction, seed=spec.seed)


def make_dataset(
    x: Any,
    y: Any,
    *,
    columns: Mapping[str, str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """Make a data set of arrays or a pandas DataFrame: all examples are divided into train and validation.

    Args:
        x: Features: an array (n, k) or of images (n, height, width[, channels]), or a DataFrame.
        y: Labels, shape (n,): integers, booleans or texts.
        columns: Column of a DataFrame → ``number``, ``category`` or ``ignore``, to correct what is inferred.
        validation_fraction: As for :func:`load_dataset`.
        seed: As for :func:`load_dataset`.
        name: Its name in messages.

    Raises:
        DataError: If it is not fit for classification.
        SpecError: If ``validation_fraction`` or ``seed`` is outside its range.
    """
    _check_cut(validation_fraction, seed)
    data = data_of(x, y, columns=columns or {}, name=name)
    return data.cut(validation_fraction=validation_fraction, seed=seed)


def load_test_split(name: str, *, data_dir: Path | None = None) -> Split:
    """Load the test split; only the champion needs it, after the search.

    It is the source's ``test`` split, or else its ``validation`` split. If the source has neither, it is a stratified
    fifth of the examples, always the same. Arguments and errors are those of :func:`load_dataset` and `Data.test`.
    """
    return open_data(DataSpec(dataset=name), data_dir=data_dir).test(None)


def _check_cut(validation_fraction: float, seed: int) -> None:
    if not 0.0 < validation_fraction < 1.0:
        raise SpecError(f"validation_fraction must be above 0 and below 1, but got {validation_fraction!r}.")
    if seed < 0:
        raise SpecError(f"seed must be at least 0, but got {seed!r}.")


def _data(
    name: str, x: Any, y: Any, *, columns: Mapping[str, str], where: str, class_names: tuple[str, ...] | None = None
) -> Data:
    """Return checked examples with their classes, before `check_classes`."""
    labels = check_labels(y, where=where)
    known = None if class_names else np.unique(labels)
    names = class_names or tuple(map(str, np.unique(labels)))
    kinds = None
    if _is_frame(x):
        kinds = infer_kinds(x, given=columns, where=where)
    elif columns:
        raise DataError(f"{where}: data.columns is for tables, and this is none. Remove it.")
    examples = _encode(x, labels, n_classes=len(names), known=known, where=where)
    return Data(name=name, class_names=names, known=known, examples=examples, kinds=kinds)


def _encode(x: Any, y: Any, *, n_classes: int, known: NDArray[Any] | None, where: str) -> Examples:
    """Return checked examples, with the labels encoded by the known ones if there are any."""
    labels = check_labels(y, where=where)
    if known is None:
        encoded = check_range(labels, n_classes=n_classes, where=where)
    else:
        encoded = encode_labels(labels, known=known, where=where)
    features = x if _is_frame(x) else check_features(x, where=where)
    if len(features) != len(encoded):
        raise DataError(f"{where}: one label an example is needed, but there are {len(features)} and {len(encoded)}.")
    return Examples(features=features, labels=encoded)


def _is_frame(value: Any) -> bool:
    """Return whether a value is a pandas DataFrame, without importing pandas."""
    return hasattr(value, "iloc") and hasattr(value, "columns")
