"""What a study searches on: train and validation as arrays."""

import dataclasses

import numpy as np

from .arrays import Features, Labels
from .preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Examples with their classes.

    Features are flat vectors (n, k) or images (n, height, width[, channels]). Images of uint8 keep that type and their
    values (0 to 255, in ``digits`` 0 to 16). Everything else is finite and float32, or float64 if float32 could lose
    what the classes depend on (`data.precision`).
    """

    features: Features  # (n, *feature_shape)
    labels: Labels  # (n,), int32, each in [0, n_classes)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """What a study searches on. The test split is not in it.

    The fingerprint is the SHA-256, in hexadecimal, of features, labels and class names before validation was cut off.
    The same data has the same fingerprint on every machine, whatever the seed and the fraction.
    """

    name: str  # the name it was loaded by
    class_names: tuple[str, ...]  # in the order of the labels
    train: Split  # to learn from
    validation: Split  # to score on, cut stratified from the source's train split
    fingerprint: str
    preprocessing: Preprocessing | None = None  # turns a table's columns into features; fitted on train

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
    """What is known of a data set without its arrays."""

    name: str
    n_train: int
    n_validation: int
    majority: float  # share of the validation examples that have the most frequent class
    entropy: float  # of their classes' frequencies, in nats: the loss of giving each class its frequency
    recall_weights: float  # sum of squares of the weights that they have in the mean of the classes' recalls
    n_classes: int
    feature_shape: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetFacts":
        """Return the facts of a loaded data set."""
        counts = np.bincount(dataset.validation.labels)
        counts = counts[counts > 0]
        shares = counts / counts.sum()
        return cls(
            name=dataset.name,
            n_train=len(dataset.train.labels),
            n_validation=len(dataset.validation.labels),
            majority=float(shares.max()),
            entropy=float(-(shares * np.log(shares)).sum()),
            recall_weights=float((1 / counts).sum() / len(counts) ** 2),
            n_classes=dataset.n_classes,
            feature_shape=dataset.feature_shape,
            fingerprint=dataset.fingerprint,
        )
