"""Which numbers stay float64, since float32 would lose differences that the classes may depend on."""

import logging
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .columns import few

_logger = logging.getLogger(__name__)

#: Rounding to float32 moves a value by up to this share of it.
_ROUNDING: Final = 2.0**-24
#: Rounding may move a column's values by this share of its standard deviation, which is far below any noise.
_HARMLESS: Final = 1e-3
#: In float32 the variance of larger columns overflows, and that of narrower ones vanishes.
_LARGEST: Final = 1e18
_NARROWEST: Final = 4e-6

# Rows converted to float64 at a time: 4,096 images of 28×28 take 26 MB.
_ROWS_AT_A_TIME: Final = 4096
_SAMPLE_ROWS: Final = 1024


def narrowed(array: NDArray[Any], *, where: str) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return finite numbers, examples on axis 0, as float32, or as float64 if a column needs it; log which ones do.

    A column needs it if its values are large compared with their differences (Unix timestamps, integers above 2²⁴), or
    if float32 cannot hold its variance. A network then subtracts the mean and divides in float64. Log messages begin
    with ``where``.
    """
    columns = array.reshape(len(array), -1)
    wide = _needs_float64(columns)
    kept: NDArray[Any] = np.ascontiguousarray(array, dtype=np.float64 if wide.any() else np.float32)
    if wide.any():
        _logger.warning(
            "%s: float32 is too coarse, or too narrow in range, for %s. The features stay float64, and networks "
            "subtract the mean and divide in float64. Call a saved one as network(features): Keras' predict() first "
            "rounds numpy's float64 to float32.",
            *(where, _named(np.flatnonzero(wide))),
        )
    if array.ndim == 2 and ((array.dtype.itemsize > 2 and array.dtype != np.float32) or wide.any()):
        merged = _merged_columns(columns, normalized=bool(wide.any()))
        if merged:
            _logger.warning(
                "%s: the values of %s differ by too little, for their range, to be told apart in float32, in which "
                "networks compute. Scale them, cut off outliers, or divide them into several features.",
                *(where, _named(merged)),
            )
    return kept


def _needs_float64(columns: NDArray[Any]) -> NDArray[np.bool_]:
    low, high = (np.asarray(edge(axis=0), np.float64) for edge in (columns.min, columns.max))
    largest, spread = np.maximum(np.abs(low), np.abs(high)), high - low
    far = (largest > _LARGEST) | ((spread > 0) & (spread < _NARROWEST))
    if columns.dtype == np.float32 or columns.dtype.itemsize <= 2:
        return far
    # The standard deviation of n values is at least their spread over √(2n): most columns need no second look.
    coarse = (spread > 0) & (largest * _ROUNDING > _HARMLESS * spread / np.sqrt(2 * len(columns)))
    if coarse.any():
        own = columns[:, coarse]
        with np.errstate(over="ignore"):
            exact = np.all([(rows.astype(np.float32) == rows).all(axis=0) for rows in _chunks(own)], axis=0)
        deviation = np.sqrt(mean_and_variance(own)[1])
        coarse[coarse] = ~exact & (largest[coarse] * _ROUNDING > _HARMLESS * deviation)
    return np.asarray(far | coarse)


def mean_and_variance(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each feature's mean and population variance (divided by n); examples are on axis 0."""
    # Sums of differences from the first example are as precise as the differences, whatever the offset, and those of
    # a constant feature are exactly 0.
    first = features[0].astype(np.float64)
    shift, variance = np.zeros_like(first), np.zeros_like(first)
    for rows in _chunks(features):
        rows -= first
        shift += rows.sum(axis=0)
    mean = first + shift / len(features)
    for rows in _chunks(features):
        rows -= mean
        variance += np.square(rows, out=rows).sum(axis=0)
    return mean, variance / len(features)


def _chunks(features: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(features), _ROWS_AT_A_TIME):
        yield features[start : start + _ROWS_AT_A_TIME].astype(np.float64)


def _merged_columns(columns: NDArray[Any], *, normalized: bool) -> list[int]:
    """Return the columns that lose more than half of their distinct values in float32."""
    sample = columns[:: -(-len(columns) // _SAMPLE_ROWS)]
    seen = sample.astype(np.float64)
    if normalized:
        seen -= seen[0]
        seen /= np.maximum(seen.std(axis=0), np.finfo(np.float64).tiny)
        seen -= seen.mean(axis=0)
    single = seen.astype(np.float32)
    counts = ((len(np.unique(sample[:, j])), len(np.unique(single[:, j]))) for j in range(sample.shape[1]))
    return [j for j, (before, after) in enumerate(counts) if before > 1 and 2 * after <= before]


def _named(columns: Any) -> str:
    return f"feature{'s' if len(columns) > 1 else ''} {few([str(int(column)) for column in columns])} (counted from 0)"
