"""The data that a fleet's programs read: flat features, normalised once and not in every step."""

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ...networks import Statistics
from ..tensors import TensorSplits

# Above this the features stay as they are and each batch is normalised when it is taken: a step of a network on 784
# features takes an eighth longer, but 50,000 images of 32×32×3 in float32 take 614 MB in every worker.
_LARGEST_NORMALIZED_BYTES = 1 << 29

_EPSILON = 1e-7  # keras.layers.Normalization divides by max(√variance, 1e-7)


class DataTensors(NamedTuple):
    """What a program reads of the data, as `FleetData` has it; while it is traced, the symbols of these."""

    train_features: Any
    train_labels: Any
    validation_features: Any
    validation_labels: Any
    mean: Any = None
    scale: Any = None

    @property
    def n_features(self) -> int:
        """Values of one example."""
        return int(self.train_features.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FleetData:
    """Training and validation examples as a fleet's programs read them.

    Attributes:
        train_features: Tensor (n_train, n_features), normalised floats, or of the data set's type where ``scale`` is
            not None.
        train_labels: Tensor (n_train,), int32.
        validation_features: Tensor (n_validation, n_features), of the same type.
        validation_labels: Tensor (n_validation,), int32.
        feature_shape: Shape of one example before it was flattened.
        n_classes: Classes, at least 2.
        normalization: Mean and variance of each feature, as the lanes' Keras networks are built with; None for none.
        mean: What a batch subtracts, (n_features,), where it is normalised when taken; else None.
        scale: What it is then divided by; else None.
    """

    train_features: Any
    train_labels: Any
    validation_features: Any
    validation_labels: Any
    feature_shape: tuple[int, ...]
    n_classes: int
    normalization: Statistics | None
    mean: Any
    scale: Any

    @classmethod
    def from_splits(
        cls,
        splits: TensorSplits,
        *,
        normalization: Statistics | None,
        largest_normalized_bytes: int = _LARGEST_NORMALIZED_BYTES,
    ) -> "FleetData":
        """Flatten and normalise a data set's splits, as the Keras networks' first layers do.

        Args:
            splits: The examples.
            normalization: From ``networks.fit_normalization``, or None to leave the features alone.
            largest_normalized_bytes: Above this, batches are normalised one by one.
        """
        dtype = keras.config.floatx()
        n_features = int(np.prod(splits.feature_shape))
        mean = scale = None
        if normalization is not None:
            mean, scale = _constants(normalization, dtype)
        features = [tf.reshape(part, (-1, n_features)) for part in (splits.train_features, splits.validation_features)]
        n_bytes = sum(int(np.prod(part.shape)) for part in features) * np.dtype(dtype).itemsize
        if n_bytes <= largest_normalized_bytes:
            features = [normalized(part, mean=mean, scale=scale, dtype=dtype) for part in features]
            mean = scale = None
        return cls(
            train_features=features[0],
            train_labels=splits.train_labels,
            validation_features=features[1],
            validation_labels=splits.validation_labels,
            feature_shape=splits.feature_shape,
            n_classes=splits.n_classes,
            normalization=normalization,
            mean=mean,
            scale=scale,
        )

    @property
    def tensors(self) -> list[Any]:
        """What a program takes of it."""
        tensors = [self.train_features, self.train_labels, self.validation_features, self.validation_labels]
        return tensors if self.scale is None else [*tensors, self.mean, self.scale]

    @property
    def signature(self) -> list[Any]:
        """Shapes and types of `tensors`, however many examples there are."""
        parts = self.tensors
        shapes = [[None, *part.shape[1:]] if index < 4 else part.shape for index, part in enumerate(parts)]
        return [tf.TensorSpec(shape, part.dtype) for shape, part in zip(shapes, parts, strict=True)]

    @property
    def n_train(self) -> int:
        """Training examples."""
        return int(self.train_labels.shape[0])

    @property
    def n_validation(self) -> int:
        """Validation examples."""
        return int(self.validation_labels.shape[0])

    @property
    def n_features(self) -> int:
        """Values of one example."""
        return int(self.train_features.shape[1])


def _constants(normalization: Statistics, dtype: str) -> tuple[Any, Any]:
    """Return what is subtracted and then divided by, in the type in which the Keras networks do so."""
    mean, variance = (tf.constant(part.reshape(-1)) for part in normalization)
    if mean.dtype == tf.float64:
        return mean, tf.sqrt(variance)
    return tf.cast(mean, dtype), tf.maximum(tf.sqrt(tf.cast(variance, dtype)), tf.constant(_EPSILON, dtype))


def normalized(features: Any, *, mean: Any, scale: Any, dtype: str) -> Any:
    """Return features as floats, x := (x − mean) / scale; only cast where there is no scale."""
    if scale is not None:
        features = (tf.cast(features, scale.dtype) - mean) / scale
    return tf.cast(features, dtype)
