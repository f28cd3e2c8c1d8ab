"""Loading data sets, and dividing them: for the search, for the race over several cuts, and for the refit on all."""

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
from .arrays import check_classes, check_features, check_labels, check_range, check_rows, encode_labels
from .columns import Kind, infer_kinds, odd_columns
from .dataset import Dataset, Split
from .preprocessing import Preprocessing
from .split import stratified_cut

_TEST_SEED: Final = (
    0  # fixed: the test split must not move with a study's seed, or one study's test is another's training
)


LabelType = Literal["text", "integer", "boolean"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Examples as they were read: checked arrays, or a table whose columns are not yet numbers."""

    features: Any  # an array, or a DataFrame
    labels: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp]) -> "Examples":
        """Return some of them, in the given order."""
        features = self.features.iloc[rows] if _is_frame(self.features) else self.features[rows]
        return Examples(features=features, labels=self.labels[rows])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A data set, its test split taken off.

    Attributes:
        name: The name it was loaded by.
        class_names: Names of the classes, in the order of the labels.
        label_type: What the labels were before they became numbers from 0 on.
        examples: All that may be learned from.
        kinds: Of a table's columns; None for arrays.
        read_test: Reads the test split.
    """

    name: str
    class_names: tuple[str, ...]
    label_type: LabelType
    examples: Examples
    kinds: Mapping[str, Kind] | None
    read_test: Callable[[], Examples]

    def cut(self, *, validation_fraction: float, seed: int) -> Dataset:
        """Divide the examples into train and validation, stratified, and fit what a table needs on train.

        Args:
            validation_fraction: Share that validates, in (0, 1).
            seed: Decides which examples validate, at least 0.

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
        preprocessing = self._fit(self.examples.take(stays))
        return Dataset(
            name=self.name,
            class_names=self.class_names,
            train=self._split(self.examples.take(stays), preprocessing),
            validation=self._split(self.examples.take(cut_off), preprocessing),
            fingerprint=self.fingerprint,
            preprocessing=preprocessing,
        )

    def whole(self) -> tuple[Split, Preprocessing | None]:
        """Return all that may be learned from, and what was fitted on it for a table."""
        preprocessing = self._fit(self.examples)
        return self._split(self.examples, preprocessing), preprocessing

    def test(self, preprocessing: Preprocessing | None) -> Split:
        """Read the test split: for the champion, once the search is over, and for nothing before.

        Args:
            preprocessing: As it was fitted on a table to learn from; None for arrays.

        Raises:
            DataError: If the labels are withheld, or of a class that training has not.
        """
        return self._split(self.read_test(), preprocessing)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of features, labels and class names."""
        digest = hashlib.sha256()
        parts: tuple[Any, ...] = (self.examples.features, self.examples.labels)
        for part in parts:
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
        """Return a sentence for every column of a table that one should look at; see `tables.odd_columns`."""
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
    """Read a data set that a study file describes; its test split is not read.

    Args:
        data: The study file's ``[data]``.
        data_dir: Where TFDS keeps data sets; by default ``TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.

    Raises:
        DataError: If there is no such data set, it cannot be prepared, or it is not fit for classification.
    """
    from .sources import open_source

    name = data.dataset
    source = open_source(data, data_dir=data_dir)
    where = f"Data set {name!r}, train split"
    features, labels = source.read_train()
    checked = check_labels(labels, where=where)
    known = None if source.class_names else np.unique(checked)
    class_names = source.class_names or tuple(str(label) for label in np.unique(checked))
    kinds = _kinds_of(features, data.columns, where=where)
    examples = _encode(features, checked, n_classes=len(class_names), known=known, where=where)
    if source.read_test is not None:
        read_source = source.read_test

        def read_test() -> Examples:
            where = f"Data set {name!r}, test split"
            features, labels = read_source()
            checked = check_labels(labels, where=where)
            return _encode(features, checked, n_classes=len(class_names), known=known, where=where)
    else:
        stays, cut_off = stratified_cut(examples.labels, fraction=data.test_fraction, seed=_TEST_SEED)
        held_out, examples = examples.take(cut_off), examples.take(stays)
        where += f" (after {data.test_fraction:.0%} were cut off to test on)"

        def read_test() -> Examples:
            return held_out

    return _checked_data(name, class_names, examples, known=known, kinds=kinds, read_test=read_test, where=where)


def data_of(x: Any, y: Any, *, columns: Mapping[str, str], name: str) -> Data:
    """Return arrays or a DataFrame as a data set without a test split; all examples may be learned from.

    Raises:
        DataError: If they are not fit for classification.
    """
    where = f"Data set {name!r}"
    checked = check_labels(np.asarray(y), where=where)
    known = np.unique(checked)
    class_names = tuple(str(label) for label in known)
    kinds = _kinds_of(x, columns, where=where)
    examples = _encode(x, checked, n_classes=len(known), known=known, where=where)

    def read_test() -> Examples:
        raise DataError(f"{where} has no test split.")

    return _checked_data(name, class_names, examples, known=known, kinds=kinds, read_test=read_test, where=where)


def load_dataset(
    name: str, *, validation_fraction: float = 0.2, seed: int = 0, data_dir: Path | None = None
) -> Dataset:
    """Load a classification data set, its train split divided into train and validation.

    Args:
        name: A TFDS name (``digits``, ``emnist/letters``, ``mnist:3.0.1``), the directory of a prepared TFDS data set,
            an ``.npz`` file, or ``package.module:function``, whose function returns
            ``((x_train, y_train), (x_test, y_test))`` as tuples, or ``(x, y)``. A TFDS data set that is not prepared is
            prepared, if its files are here or can be downloaded. For tables and images see `open_data`.
        validation_fraction: Share of the train split that validates, in (0, 1). A fifth leaves the most to learn from
            with the score still steady.
        seed: Decides which examples validate, at least 0.
        data_dir: Where TFDS keeps data sets; by default ``TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.

    Returns:
        The data set. Its test split is not read. Where the source has none, the fifth of the examples that
        :func:`load_test_split` returns has been taken off first.

    Raises:
        DataError: If there is no such data set, it cannot be prepared, or it is not fit for classification.
        SpecError: If ``validation_fraction`` or ``seed`` is outside its range.

    Example:
        >>> load_dataset("digits").train.features.shape  # doctest: +SKIP
        (1149, 8, 8, 1)
    """
    check_cut(validation_fraction, seed)  # before anything is read
    data = open_data(DataSpec(dataset=name), data_dir=data_dir)
    return data.cut(validation_fraction=validation_fraction, seed=seed)


def load_study_dataset(spec: StudySpec) -> Dataset:
    """Load the data that a study file names, cut as it says. Raises: as :func:`load_dataset`."""
    check_cut(spec.data.validation_fraction, spec.seed)
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
        columns: Column of a DataFrame → ``number``, ``category`` or ``ignore``, where what is inferred is wrong.
        validation_fraction: As for :func:`load_dataset`.
        seed: As for :func:`load_dataset`.
        name: What messages call it.

    Raises:
        DataError: If it is not fit for classification.
        SpecError: If ``validation_fraction`` or ``seed`` is outside its range.
    """
    check_cut(validation_fraction, seed)
    data = data_of(x, y, columns=columns or {}, name=name)
    return data.cut(validation_fraction=validation_fraction, seed=seed)


def load_test_split(name: str, *, data_dir: Path | None = None) -> Split:
    """Load the test split: for the champion, once the search is over, and for nothing before.

    It is the source's ``test`` split, or else its ``validation`` split. Where the source has neither, it is a
    stratified fifth of the examples, always the same.

    Args:
        name: As for :func:`load_dataset`.
        data_dir: As for :func:`load_dataset`.

    Returns:
        The test split, its labels encoded as the train split's.

    Raises:
        DataError: As :func:`load_dataset`; and if the test labels are withheld, or of a class that training has not.
    """
    return open_data(DataSpec(dataset=name), data_dir=data_dir).test(None)


def check_cut(validation_fraction: float, seed: int) -> None:
    """Refuse a fraction or a seed that fits no data.

    Raises:
        SpecError: Naming it.
    """
    if not 0.0 < validation_fraction < 1.0:
        raise SpecError(f"validation_fraction must be above 0 and below 1, but got {validation_fraction!r}.")
    if seed < 0:
        raise SpecError(f"seed must be at least 0, but got {seed!r}.")


def _kinds_of(features: Any, given: Mapping[str, str], *, where: str) -> dict[str, Kind] | None:
    if _is_frame(features):
        return infer_kinds(features, given=given, where=where)
    if given:
        raise DataError(f"{where}: data.columns is for tables, and this is none. Remove it.")
    return None


def _checked_data(
    name: str,
    class_names: tuple[str, ...],
    examples: Examples,
    *,
    known: NDArray[Any] | None,
    kinds: Mapping[str, Kind] | None,
    read_test: Callable[[], Examples],
    where: str,
) -> Data:
    """Return a data set, once each of its classes has examples to learn from."""
    check_classes(examples.labels, class_names=class_names, where=where)
    return Data(
        name=name,
        class_names=class_names,
        label_type=_label_type(known),
        examples=examples,
        kinds=kinds,
        read_test=read_test,
    )


def _label_type(known: NDArray[Any] | None) -> LabelType:
    kind = "U" if known is None else known.dtype.kind
    return "text" if kind == "U" else "boolean" if kind == "b" else "integer"


def _encode(features: Any, labels: NDArray[Any], *, n_classes: int, known: NDArray[Any] | None, where: str) -> Examples:
    """Return checked examples, their labels encoded by the known ones, or as the source declares them."""
    encoded = (
        check_range(labels, n_classes=n_classes, where=where)
        if known is None
        else encode_labels(labels, known=known, where=where)
    )
    checked = features if _is_frame(features) else check_features(features, where=where)
    check_rows(checked, encoded, where=where)
    return Examples(features=checked, labels=encoded)


def _is_frame(value: Any) -> bool:
    """Tell whether something is a pandas DataFrame, without importing pandas for what is none."""
    return hasattr(value, "iloc") and hasattr(value, "columns")
