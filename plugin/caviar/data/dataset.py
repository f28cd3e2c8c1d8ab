"""Data sets for the search: train and validation as arrays, and the test split apart from them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..spec import StudySpec
from .arrays import (
    Features,
    Labels,
    check_classes,
    check_features,
    check_labels,
    check_range,
    check_rows,
    encode_labels,
)
from .sources import Source, open_source
from .split import stratified_cut

TEST_FRACTION = 0.2
"""Share cut off as test split where a source has none; a fifth, as usual, and as in the digits."""

_TEST_SEED = 0  # fixed: the test split must not move with a study's seed, or one study's test is another's training


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Examples with their classes.

    Attributes:
        features: Shape (n, *feature_shape): flat vectors (n, k) or images (n, height, width[, channels]). Images of
            uint8 stay so, with the source's values (0 to 255, in ``digits`` 0 to 16); all else is finite and float32,
            or float64 where that would lose what its classes may depend on (`data.precision`).
        labels: Shape (n,), int32, each in [0, n_classes).
    """

    features: Features
    labels: Labels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """What a study searches on. The test split is not in it.

    Attributes:
        name: The name it was loaded by.
        class_names: Names of the classes, in the order of the labels.
        train: Examples to learn from.
        validation: Examples to score on, cut stratified from the source's train split.
        fingerprint: SHA-256, in hexadecimal, of features, labels and class names before validation was cut: the same
            for the same data on every machine, whatever the seed and the fraction.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str

    @property
    def n_classes(self) -> int:
        """How many classes there are, at least 2."""
        return len(self.class_names)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example: (k,), (height, width) or (height, width, channels)."""
        return self.train.features.shape[1:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What is known of a data set without its arrays.

    Attributes:
        name: As the study file names it.
        n_train: Training examples.
        n_validation: Validation examples.
        majority: Share of these that have the most frequent class.
        entropy: Of their classes' frequencies, in nats: the loss of giving each class its frequency.
        n_classes: Classes.
        feature_shape: Shape of one example.
        fingerprint: Of its contents.
    """

    name: str
    n_train: int
    n_validation: int
    majority: float
    entropy: float
    n_classes: int
    feature_shape: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetFacts":
        """Return a loaded data set's."""
        counts = np.bincount(dataset.validation.labels)
        shares = counts[counts > 0] / counts.sum()
        return cls(
            name=dataset.name,
            n_train=len(dataset.train.labels),
            n_validation=len(dataset.validation.labels),
            majority=float(shares.max()),
            entropy=float(-(shares * np.log(shares)).sum()),
            n_classes=dataset.n_classes,
            feature_shape=dataset.feature_shape,
            fingerprint=dataset.fingerprint,
        )


def load_dataset(
    name: str, *, validation_fraction: float = 0.2, seed: int = 0, data_dir: Path | None = None
) -> Dataset:
    """Load a classification data set, its train split divided into train and validation.

    Args:
        name: A TFDS name (``digits``, ``emnist/letters``, ``mnist:3.0.1``), the directory of a prepared TFDS data set,
            or ``package.module:function``, whose function returns ``((x_train, y_train), (x_test, y_test))`` as tuples,
            or ``(x, y)``. A TFDS data set that is not prepared is prepared, if its files are here or can be downloaded.
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
    if not 0.0 < validation_fraction < 1.0:
        raise SpecError(f"validation_fraction must be above 0 and below 1, but got {validation_fraction!r}.")
    if seed < 0:
        raise SpecError(f"seed must be at least 0, but got {seed!r}.")
    source = open_source(name, data_dir=data_dir)
    split, class_names = _read_train(source, name=name)
    where = f"Data set {name!r}, train split"
    if not source.has_test:
        split, _ = _cut(split, fraction=TEST_FRACTION, seed=_TEST_SEED)
        where += f" (after {TEST_FRACTION:.0%} were cut off to test on)"
    check_classes(split.labels, class_names=class_names, where=where)
    least = 1 / len(split.labels)
    if not least <= validation_fraction <= 1 - least:
        raise SpecError(
            f"validation_fraction must leave at least one of the {len(split.labels)} examples on each side, "
            f"so it must lie between {least:.2g} and {1 - least:.6g}, but got {validation_fraction!r}."
        )
    train, validation = _cut(split, fraction=validation_fraction, seed=seed)
    return Dataset(
        name=name,
        class_names=class_names,
        train=train,
        validation=validation,
        fingerprint=_fingerprint(split, class_names),
    )


def load_study_dataset(spec: StudySpec) -> Dataset:
    """Load the data that a study file names, cut as it says. Raises: as :func:`load_dataset`."""
    return load_dataset(spec.data.dataset, validation_fraction=spec.data.validation_fraction, seed=spec.seed)


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
    source = open_source(name, data_dir=data_dir)
    if not source.has_test:
        everything, _ = _read_train(source, name=name)
        _, test = _cut(everything, fraction=TEST_FRACTION, seed=_TEST_SEED)
        return test
    features, labels = source.read_test()
    known = (
        None if source.class_names else np.unique(check_labels(source.read_train_labels(), where=f"Data set {name!r}"))
    )
    return _checked(features, labels, source=source, known=known, where=f"Data set {name!r}, test split")


def _read_train(source: Source, *, name: str) -> tuple[Split, tuple[str, ...]]:
    """Return all that the source has to train on, and the names of its classes."""
    where = f"Data set {name!r}, train split"
    features, labels = source.read_train()
    if source.class_names:
        return _checked(features, labels, source=source, known=None, where=where), source.class_names
    known = np.unique(check_labels(labels, where=where))
    names = tuple(str(label) for label in known)
    return _checked(features, labels, source=source, known=known, where=where), names


def _checked(features: Any, labels: Any, *, source: Source, known: NDArray[Any] | None, where: str) -> Split:
    """Return the source's arrays as a split, its labels encoded by the known ones or as the source declares them."""
    checked = check_labels(labels, where=where)
    split = Split(
        features=check_features(features, where=where),
        labels=check_range(checked, n_classes=len(source.class_names or ()), where=where)
        if known is None
        else encode_labels(checked, known=known, where=where),
    )
    check_rows(split.features, split.labels, where=where)
    return split


def _cut(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return what stays of a split and what is cut off, stratified."""
    stays, cut_off = stratified_cut(split.labels, fraction=fraction, seed=seed)
    return _take(split, stays), _take(split, cut_off)


def _take(split: Split, rows: NDArray[np.intp]) -> Split:
    return Split(features=split.features[rows], labels=split.labels[rows])


def _fingerprint(split: Split, class_names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for array in (split.features, split.labels):
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    digest.update(json.dumps(class_names).encode())
    return digest.hexdigest()
