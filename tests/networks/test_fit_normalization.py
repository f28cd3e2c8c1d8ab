from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caviar.networks import fit_normalization


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.integers(0, 255)),
)
@settings(deadline=None, max_examples=50)
def test_normalised_features_have_mean_0_and_variance_1_or_0_where_constant(features: Any) -> None:
    mean, variance = fit_normalization(features)
    normalised = (features.astype(np.float64) - mean) / np.sqrt(variance)
    constant = (features == features[0]).all(axis=0)
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.var(axis=0), np.where(constant, 0, 1), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-3, 0.1, 123456.7, -1e9])
def test_constant_feature_keeps_variance_1(value: Any) -> None:
    mean, variance = fit_normalization(np.full((1001, 2), value, np.float32))
    np.testing.assert_array_equal(variance, 1)
    np.testing.assert_allclose(mean, value, rtol=1e-6)


def test_small_but_real_variance_is_kept() -> None:
    features = np.array([[1e-6], [3e-6]], np.float32)
    _, variance = fit_normalization(features)
    np.testing.assert_allclose(variance, 1e-12, rtol=1e-5)


def test_statistics_are_float32_of_the_shape_of_one_example() -> None:
    features = np.random.default_rng(0).integers(0, 255, (5000, 3, 2, 1), dtype=np.uint8)
    mean, variance = fit_normalization(features)
    assert mean.shape == variance.shape == (3, 2, 1)
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, features.var(axis=0), rtol=1e-5)


def test_statistics_of_float64_are_float64_and_know_small_differences_of_large_values() -> None:
    small = np.random.default_rng(0).normal(size=(5000, 2))
    mean, variance = fit_normalization(1.7e9 + 0.01 * small)
    assert mean.dtype == variance.dtype == np.float64
    np.testing.assert_allclose(mean - 1.7e9, 0.01 * small.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(variance, 1e-4 * small.var(axis=0), rtol=1e-3)
    for scale in (1e140, 1e-140):
        np.testing.assert_allclose(fit_normalization(scale * small)[1], scale**2 * small.var(axis=0), rtol=1e-9)


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 example, but got 0"):
        fit_normalization(np.zeros((0, 4)))
