"""A data set's training and validation splits, as tensors that all trials of a process share."""

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

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
    def from_dataset(cls, dataset: "Dataset", *, balanced: bool = False, by_class: bool = False) -> "TensorSplits":
        """Copy a data set's training and validation splits to the device; its test split stays untouched.

        Args:
            dataset: The data set.
            balanced: Whether each class weighs the same in the training loss: n / (n_classes · n_class) an example.
            by_class: Whether val_balanced_accuracy and val_macro_f1 are computed too.
        """
        labels, n_classes = dataset.train.labels, dataset.n_classes
        counts = np.maximum(np.bincount(labels, minlength=n_classes), 1)
        weights = tf.constant(len(labels) / (n_classes * counts), keras.config.floatx()) if balanced else None
        return cls(
            train_features=tf.constant(dataset.train.features),
            train_labels=tf.constant(dataset.train.labels, tf.int32),
            validation_features=tf.constant(dataset.validation.features),
            validation_labels=tf.constant(dataset.validation.labels, tf.int32),
            n_classes=n_classes,
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
