"""Reading prepared TFDS data sets: which features are input and which is the label, and splits as arrays."""

import dataclasses
import functools
import importlib.metadata
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray

from ..errors import DataError
from ..user_cache import sources_digest
from .kept_arrays import Arrays, KeptArrays, key_of

_OWN_FUNCTION = "Return the arrays from a function of yours, and name it as package.module:function."


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Which features of a TFDS data set are used."""

    inputs: tuple[tuple[tuple[str, ...], Any], ...]  # each feature, behind the keys that lead to it
    feature_shape: tuple[int, ...]  # of an example: the single input's own, or (k,) of all of them concatenated
    label: str  # its key
    class_names: tuple[str, ...] | None  # None where TFDS declares none: then the labels that occur name the classes


class PreparedDataset:
    """A prepared TFDS data set on the disk, read without its builder's code and without any network.

    Decoded splits are ``kept``; without a place for them, they are read from their files each time.

    Raises:
        DataError: If TFDS cannot read its description. Methods raise it if they cannot use its splits or features.
    """

    def __init__(self, directory: Path, *, kept: KeptArrays | None = None) -> None:
        self._directory, self._kept = directory, kept
        self._where = f"Data set in {str(directory)!r}"
        try:
            self._builder = tfds.builder_from_directory(directory)
            splits = self._builder.info.splits.items()
            self._n_examples = {str(split): int(info.num_examples) for split, info in splits}
        except Exception as error:  # damaged files, or feature classes of a package that is not installed
            raise DataError(f"{self._where} cannot be read: {type(error).__name__}: {error}") from error

    @property
    def n_train(self) -> int:
        """Examples in the split to train on, validation not yet cut off."""
        return self._n_examples[self._train_split]

    @property
    def n_test(self) -> int | None:
        """Examples in the split to test on; None where the source holds nothing out."""
        return self._n_examples[self._test_split] if self._test_split else None

    def read_train(self) -> tuple[Any, Any]:
        """Read features and labels of the split to train on."""
        return self._read(self._train_split)

    def read_test(self) -> tuple[Any, Any]:
        """Read features and labels of the split to test on; see ``n_test``."""
        assert self._test_split is not None
        return self._read(self._test_split)

    @property
    def _train_split(self) -> str:
        if "train" in self._n_examples:
            return "train"
        if len(self._n_examples) == 1:
            return next(iter(self._n_examples))
        raise DataError(f"{self._where} has no split named train, only {', '.join(self._n_examples) or 'none at all'}.")

    @property
    def _test_split(self) -> str | None:
        held_out = self._n_examples.keys() - {self._train_split}
        return next((split for split in ("test", "validation") if split in held_out), None)

    def columns(self) -> Columns:
        """Return which features are input and label: those that TFDS declares for supervised learning, if it does.

        If it declares nothing, the only ClassLabel is the label, and all other features are input. The label must be
        one class per example, and every input numeric and of fixed shape.
        """
        features = self._builder.info.features
        if not isinstance(features, tfds.features.FeaturesDict):
            raise DataError(f"{self._where} has no label: its examples are a single feature, {features}.")
        keys, label = self._supervised_keys(features)
        inputs = tuple(leaf for key in sorted(keys) for leaf in _leaves((key,), features[key]))
        return Columns(
            inputs=inputs,
            feature_shape=self._feature_shape(inputs),
            label=label,
            class_names=self._class_names(features[label], label),
        )

    def _read(self, split: str) -> Arrays:
        """Return a whole split, in the order of its records; read and keep it if it is not kept yet."""
        columns = self.columns()
        if self._kept is None:
            return self._decode(split, columns)
        names = ["/".join(keys) for keys, _ in columns.inputs]
        makers = [tfds.__version__, importlib.metadata.version("tensorflow"), sources_digest("data")]
        key = key_of(self._directory, *makers, split, columns.label, *names)
        arrays = self._kept.load(key)
        if arrays is None:
            arrays = self._decode(split, columns)
            self._kept.save(key, arrays)
        return arrays

    def _decode(self, split: str, columns: Columns) -> Arrays:
        """Read a whole split from its files."""
        wanted = dict.fromkeys([columns.label, *(keys[0] for keys, _ in columns.inputs)], True)
        uses_all = wanted.keys() == set(self._builder.info.features)
        try:
            examples = tfds.as_numpy(
                self._builder.as_dataset(
                    split=split,
                    batch_size=-1,  # the fastest way: Fashion-MNIST's 60,000 images take 2.4 s, 2.7 s in batches
                    # Decode only what is used. If that is everything, asking for it would cost deprecation warnings.
                    decoders=None if uses_all else tfds.decode.PartialDecoding(wanted),
                    # One file after the other keeps the order of the records.
                    read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
                )
            )
        except Exception as error:  # tf.errors and whatever a feature's decoder raises
            message = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise DataError(f"{self._where}, {split} split, cannot be read: {message}") from error
        labels = np.asarray(examples[columns.label])
        features = [_dense(functools.reduce(operator.getitem, keys, examples), part) for keys, part in columns.inputs]
        if len(features) > 1 or len(columns.feature_shape) == 1:
            features = [array.reshape(len(array), -1) for array in features]
        return Arrays(features=features[0] if len(features) == 1 else _joined(features), labels=labels)

    def _supervised_keys(self, features: Any) -> tuple[list[str], str]:
        declared = self._builder.info.supervised_keys
        if declared is not None:
            keys, label = declared[0], declared[1]  # a third would be weights of the examples
            if isinstance(label, str):
                return list(dict.fromkeys(_strings(keys))), label
            raise DataError(f"{self._where} has several labels an example ({label}), which is not supported.")
        labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        if len(labels) != 1:
            found = f"several classes: {', '.join(sorted(labels))}" if labels else "no class"
            raise DataError(
                f"{self._where} declares no supervised keys, and among its features ({', '.join(features)}) is {found}."
                f" {_OWN_FUNCTION}"
            )
        return [key for key in features if key != labels[0]], labels[0]

    def _feature_shape(self, inputs: tuple[tuple[tuple[str, ...], Any], ...]) -> tuple[int, ...]:
        shapes = {}
        for keys, feature in inputs:
            where = f"{self._where}: feature {'/'.join(keys)!r}"
            numeric = isinstance(feature, (tfds.features.Image, tfds.features.Tensor))
            if not numeric or np.dtype(feature.np_dtype).kind not in "biuf":
                raise DataError(
                    f"{where} is {type(feature).__name__}, but only images and numbers of a fixed shape can be input."
                    f" {_OWN_FUNCTION}"
                )
            if None in feature.shape:
                raise DataError(
                    f"{where} has no fixed shape, but {feature.shape}. Resize it in a function of yours, and name that"
                    " as package.module:function."
                )
            n_categories = _n_categories(feature)
            shapes[where] = (n_categories,) if n_categories else tuple(feature.shape)
        if not shapes:
            raise DataError(f"{self._where} has a label but no features.")
        first = next(iter(shapes.values()))
        if len(shapes) == 1 and 1 <= len(first) <= 3:
            return first
        for where, shape in shapes.items():
            if len(shape) > 1:
                raise DataError(
                    f"{where} has shape {shape}; the input must be one image, or any number of scalars and vectors."
                )
        return (sum(int(np.prod(shape)) for shape in shapes.values()),)

    def _class_names(self, feature: Any, label: str) -> tuple[str, ...] | None:
        if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes:
            return tuple(feature.names)
        is_scalar = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
        if is_scalar and (isinstance(feature, tfds.features.Text) or np.dtype(feature.np_dtype).kind in "biuOSU"):
            return None
        kind = "regression" if is_scalar else "several labels an example, or a label that is no class,"
        raise DataError(f"{self._where}: label {label!r} is {feature}; {kind} is not supported, only classification.")


def _joined(columns: list[NDArray[Any]]) -> NDArray[Any]:
    """Return columns side by side, in float32 if that holds each one's type, else in float64."""
    fits = all(array.dtype == np.float32 or array.dtype.itemsize <= 2 for array in columns)
    return np.concatenate(columns, axis=1, dtype=np.float32 if fits else np.float64)


def _strings(keys: Any) -> Iterator[str]:
    """Yield the keys in a nest of tuples and dicts."""
    if isinstance(keys, str):
        yield keys
    else:
        for inner in keys.values() if isinstance(keys, Mapping) else keys:
            yield from _strings(inner)


def _leaves(keys: tuple[str, ...], feature: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every feature below a key with the keys that lead to it, in sorted order."""
    if isinstance(feature, tfds.features.FeaturesDict):
        for key in sorted(feature.keys()):
            yield from _leaves((*keys, key), feature[key])
    else:
        yield keys, feature


def _dense(values: Any, feature: Any) -> NDArray[Any]:
    """Return a feature's values as input: categories as one-hot, since their codes are not quantities."""
    n_categories = _n_categories(feature)
    array = np.asarray(values)
    return (array[:, None] == np.arange(n_categories)).astype(np.float32) if n_categories else array


def _n_categories(feature: Any) -> int:
    return int(feature.num_classes or 0) if isinstance(feature, tfds.features.ClassLabel) else 0
