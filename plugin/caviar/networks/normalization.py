"""The input normalisation's mean and variance, fitted on the training split."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.precision import mean_and_variance

Statistics = tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]
"""Mean and variance of each feature, of its shape, in float32 or float64."""


def fit_normalization(features: npt.NDArray[np.generic]) -> Statistics:
    """Return the mean and variance of each feature, for the normalisation inside the model.

    Fit on the training split only: statistics of validation or test examples would leak them into training.

    Returns:
        ``(mean, variance)``, in float64 if the features are: then a network normalises in float64 too. The variance
        is the population's (divided by n). A feature that never changes gets variance 1: it becomes 0, and a value that
        first appears later stays of moderate size, where dividing by a variance of 0 would give infinity.

    Shapes:
        features (n, *shape), n at least 1; mean and variance (*shape), variance above 0.

    Raises:
        ValueError: If there is no example.

    Source:
        The course's input normalisation, x := (x − μ) / σ; scikit-learn's StandardScaler for constant features.
    """
    if not len(features):
        raise ValueError("fit_normalization needs at least 1 example, but got 0. Pass the training split.")
    mean, variance = mean_and_variance(features)
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    # A variance below the smallest normal number could become 0 in the network, which divides by it.
    variance[variance <= np.finfo(dtype).tiny] = 1.0
    return mean.astype(dtype), variance.astype(dtype)
