from typing import Any

import numpy as np
import pytest

from caviar.data.precision import narrowed

N = np.random.default_rng(0).normal(size=(2000, 3))
SPARSE = np.where(np.random.default_rng(1).random((2000, 3)) < 0.001, 1 / 255, 0.0)
STAMPS = 1.7e9 + 1e3 * N


def in_second(column: Any) -> Any:
    """Return three columns, the second of them this one."""
    return np.stack([N[:, 0], column, N[:, 2]], axis=1)


@pytest.mark.parametrize(
    "array",
    [
        N,
        1e4 + N,
        SPARSE,
        in_second(np.full(2000, 0.1)),
        in_second(np.full(2000, 1.7e9)),
        N.astype(np.float32),
        np.rint(1000 * N).astype(np.int64),
        (2**24 + np.rint(1e6 * N)).astype(np.int64),
        np.rint(100 * N).astype(np.int16),
        (N > 0),
        N.reshape(200, 6, 5) / 255,
    ],
)
def test_ordinary_numbers_become_float32_without_a_word(array: Any, caplog: pytest.LogCaptureFixture) -> None:
    kept = narrowed(array, where="X")
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, array.astype(np.float32))
    assert caplog.records == []


@pytest.mark.parametrize(
    "column",
    [
        STAMPS[:, 1],
        (2**24 + (N[:, 1] > 0)).astype(np.float64),
        1e30 * N[:, 1],
        1e-25 * N[:, 1],
        1e-8 * N[:, 1],
    ],
)
def test_a_column_that_float32_cannot_hold_keeps_all_in_float64_and_is_named(
    column: Any, caplog: pytest.LogCaptureFixture
) -> None:
    array = in_second(column)
    kept = narrowed(array, where="X")
    assert kept.dtype == np.float64
    np.testing.assert_array_equal(kept, array)
    (message,) = caplog.messages
    assert message.startswith("X: float32 is too coarse, or too narrow in range, for feature 1 (counted from 0).")


def test_whole_numbers_and_images_are_kept_in_float64_too(caplog: pytest.LogCaptureFixture) -> None:
    assert narrowed((2**30 + np.rint(10 * N)).astype(np.int64), where="X").dtype == np.float64
    assert narrowed((1e20 * N).astype(np.float32).reshape(200, 6, 5), where="X").dtype == np.float64
    assert "features 0, 1, 2 (counted from 0)" in caplog.messages[0]
    assert "features 0, 1, 2, 3, 4 and 25 more" in caplog.messages[1]


@pytest.mark.parametrize(
    "column",
    [
        np.where(N[:, 0] > 3, 1e15, 1e8 + np.arange(2000)),  # one outlier, and float32 holds the rest as one value
        2**60 + np.arange(2000),  # neighbours are equal in float64 already
    ],
)
def test_values_that_even_float64_cannot_bring_to_float32_are_told_with_their_column(
    column: Any, caplog: pytest.LogCaptureFixture
) -> None:
    array = np.stack([np.arange(2000), column, np.arange(2000)], axis=1)
    narrowed(array, where="X")
    assert "X: the values of feature 1 (counted from 0) differ by too little" in caplog.messages[-1]
