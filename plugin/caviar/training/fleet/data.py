"""The data that a fleet's programs read: flat features, normalised once and not in every step."""

import dataclasses
from collections.abc import Sequence
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


class DataForm(NamedTuple):
    """What a program's trace depends on of its data, beside the inputs' shapes and types."""

    weighted: bool  # whether the classes have weights
    by_class: bool  # whether val_balanced_accuracy and val_macro_f1 are computed too

    @property
    def n_metrics(self) -> int:
        """Metrics of an epoch."""
        return 6 if self.by_class else 4

    def tensors(self, inputs: Sequence[Any]) -> "DataTensors":
        """Return the tensors of `FleetData.inputs` by name."""
        missing = () if self.weighted else (None,)
        return DataTensors(*inputs[:4], *missing, *inputs[4:])


class DataTensors(NamedTuple):
    """What a program reads of the data; while it is traced, the symbols of these."""

    train_features: Any  # (n_train, n_features): normalised floats, or of the data set's type where scale is not None
    train_labels: Any  # (n_train,), int32
    validation_features: Any  # (n_validation, n_features), of the same type
    validation_labels: Any  # (n_validation,), int32
    class_weights: Any = None  # (n_classes,), what an example of each class counts in the training loss; or None
    mean: Any = None  # what a batch subtracts, (n_features,), if it is normalised when it is taken; else None
    scale: Any = None  # what it is then divided by; else None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FleetData:
    """Training and validation examples as a fleet's programs read them."""

    tensors: DataTensors
    n_train: int
    n_validation: int
    n_features: int  # values of one example
    feature_shape: tuple[int, ...]  # shape of one example before it was flattened
    n_classes: int
    by_class: bool  # whether val_balanced_accuracy and val_macro_f1 are computed too
    normalization: Statistics | None  # with which the lanes' Keras networks are built

    @classmethod
    def from_splits(
        cls,
        splits: TensorSplits,
        *,
        normalization: Statistics | None,
        largest_normalized_bytes: int = _LARGEST_NORMALIZED_BYTES,
    ) -> "FleetData":
        """Flatten and normalise a data set's splits, as the Keras networks' first layers do.

        Without a ``normalization``, the features stay as they are; above ``largest_normalized_bytes``, batches are
        normalised one by one.
        """
        dtype = keras.config.floatx()
        n_features = int(np.prod(splits.feature_shape))
        mean, scale = (None, None) if normalization is None else _mean_and_scale(normalization, dtype)
        features = [tf.reshape(part, (-1, n_features)) for part in (splits.train_features, splits.validation_features)]
        n_bytes = sum(int(np.prod(part.shape)) for part in features) * np.dtype(dtype).itemsize
        if n_bytes <= largest_normalized_bytes:
            features = [normalized(part, mean=mean, scale=scale, dtype=dtype) for part in features]
            mean = scale = None
        return cls(
            tensors=DataTensors(
                *(features[0], splits.train_labels, features[1], splits.validation_labels),
                *(splits.class_weights, mean, scale),
            ),
            n_train=splits.n_train,
            n_validation=splits.n_validation,
            n_features=n_features,
            feature_shape=splits.feature_shape,
            n_classes=splits.n_classes,
            by_class=splits.by_class,
            normalization=normalization,
        )

    @property
    def form(self) -> "DataForm":
        """What a program's trace depends on, beside the inputs' shapes and types."""
        return DataForm(weighted=self.tensors.class_weights is not None, by_class=self.by_class)

    @property
    def inputs(self) -> list[Any]:
        """The tensors that exist, as a program takes them."""
        return [tensor for tensor in self.tensors if tensor is not None]

    @property
    def signature(self) -> list[Any]:
        """Shapes and types of `inputs`, however many examples there are."""
        shapes = [[None, *part.shape[1:]] if index < 4 else part.shape for index, part in enumerate(self.inputs)]
        return [tf.TensorSpec(shape, part.dtype) for shape, part in zip(shapes, self.inputs, strict=True)]


def _mean_and_scale(normalization: Statistics, dtype: str) -> tuple[Any, Any]:
    """Return what is subtracted and then divided by, in the type in which the Keras networks do so."""
    mean, variance = (tf.constant(part.reshape(-1)) for part in normalization)
    if mean.dtype == tf.float64:
        return mean, tf.sqrt(variance)
    return tf.cast(mean, dtype), tf.maximum(tf.sqrt(tf.cast(variance, dtype)), tf.constant(_EPSILON, dtype))


def normalized(features: Any, *, mean: Any, scale: Any, dtype: str) -> Any:
    """Return features as floats, x := (x − mean) / scale; only cast if there is no scale."""
    if scale is not None:
        features = (tf.cast(features, scale.dtype) - mean) / scale
    return tf.cast(features, dtype)
