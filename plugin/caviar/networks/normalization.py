"""The input normalisation's mean and variance, fitted on the training split."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# Rows converted to float64 at a time: 4,096 images of 28×28 take 26 MB.
_ROWS_AT_A_TIME = 4096


def fit_normalization(features: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the mean and variance of each feature, for the Normalization layer inside the model.

    Fit on the training split only: statistics of validation or test examples would leak them into training.

    Args:
        features: Examples on axis 0, of an integer or float type.

    Returns:
        ``(mean, variance)``. The variance is the population's (divided by n). A feature that never changes gets
        variance 1, so that it becomes 0, and a value that first appears later stays of moderate size, where
        dividing by a variance of 0 would give infinity.

    Shapes:
        features (n, *shape), n at least 1; mean and variance (*shape), float32, variance above 0.

    Raises:
        ValueError: If there is no example.

    Source:
        The course's input normalisation, x := (x − μ) / σ; scikit-learn's StandardScaler for constant features.
    """
    n = len(features)
    if n == 0:
        raise ValueError("fit_normalization needs at least 1 example, but got 0. Pass the training split.")
    mean = np.zeros(features.shape[1:], np.float64)
    for rows in _chunks(features):
        mean += rows.sum(axis=0)
    mean /= n
    variance = np.zeros_like(mean)
    for rows in _chunks(features):
        variance += np.square(rows - mean).sum(axis=0)
    variance /= n
    # Rounding leaves a constant feature a variance of up to about (n·ε·mean)²: below that it carries no information.
    # In float32, where it is used, a smaller one than the smallest normal number could become 0 and divide by it.
    resolution = np.square(n * np.finfo(np.float64).eps * mean)
    constant = variance <= np.maximum(resolution, np.finfo(np.float32).tiny)
    variance[constant] = 1.0
    return mean.astype(np.float32), variance.astype(np.float32)


def _chunks(features: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(features), _ROWS_AT_A_TIME):
        yield features[start : start + _ROWS_AT_A_TIME].astype(np.float64)
