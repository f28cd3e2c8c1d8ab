"""A data set's training and validation splits, as tensors that all trials of a process share."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import SpecError, nearest_name

if TYPE_CHECKING:
    from ..data.dataset import Dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorSplits:
    """Training and validation examples on the device.

    Build one a process and give it to every trainer: a program captures the tensors without copying them. Features
    keep the data set's compact type (uint8 images stay uint8) and are cast batch by batch.
    """

    train_features: Any  # tensor (n_train, *feature_shape), uint8, float32 or float64
    train_labels: Any  # tensor (n_train,), int32, in [0, n_classes)
    validation_features: Any  # tensor (n_validation, *feature_shape), of the same type
    validation_labels: Any  # tensor (n_validation,), int32, in [0, n_classes)
    n_classes: int  # at least 2
    class_weights: Any = None  # tensor (n_classes,), what an example of each class counts in the training loss; or None
    by_class: bool = False  # whether val_balanced_accuracy and val_macro_f1 are computed too

    @classmethod
    def from_dataset(
        cls, dataset: "Dataset", *, class_weight: str | Mapping[str, float] | None = None, by_class: bool = False
    ) -> "TensorSplits":
        """Copy a data set's splits to the device. Without a ``class_weight``, see `class_weights`, all weigh alike."""
        weights = None
        if class_weight is not None:
            weights = tf.constant(class_weights(dataset, class_weight), keras.config.floatx())
        return cls(
            train_features=tf.constant(dataset.train.features),
            train_labels=tf.constant(dataset.train.labels, tf.int32),
            validation_features=tf.constant(dataset.validation.features),
            validation_labels=tf.constant(dataset.validation.labels, tf.int32),
            n_classes=dataset.n_classes,
            class_weights=weights,
            by_class=by_class,
        )

    @property
    def n_train(self) -> int:
        """Training examples."""
        return int(self.train_labels.shape[0])

    @property
    def n_validation(self) -> int:
        """Validation examples."""
        return int(self.validation_labels.shape[0])

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch axis."""
        return tuple(self.train_features.shape[1:])


def class_weights(dataset: "Dataset", class_weight: str | Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Return what an example of each class counts in the training loss, (n_classes,).

    The weights of the training split's examples have the mean 1, so that learning rates keep their meaning.
    ``balanced`` gives every class the same sum, n / (n_classes · n_c) an example; a mapping gives the classes' weights
    by name, 1 to those that it lacks.

    Raises:
        SpecError: If the mapping names what is no class.
    """
    counts = np.bincount(dataset.train.labels, minlength=dataset.n_classes)
    if isinstance(class_weight, str):
        weights = 1.0 / np.maximum(counts, 1)
    else:
        for name in class_weight:
            if name not in dataset.class_names:
                raise SpecError(f"class_weight: there is no class {name!r}. {nearest_name(name, dataset.class_names)}")
        weights = np.array([class_weight.get(name, 1.0) for name in dataset.class_names], np.float64)
    return np.asarray(weights * counts.sum() / (weights * counts).sum())
