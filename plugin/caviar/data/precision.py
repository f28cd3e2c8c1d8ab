"""Which numbers are kept in float64: those of which float32 would lose what the classes may depend on."""

import logging
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

#: Rounding to float32 moves a value by up to this share of it.
_ROUNDING: Final = 2.0**-24
#: The share of a column's standard deviation by which rounding may move its values: far below what noise would be.
_HARMLESS: Final = 1e-3
#: In float32 the variance of larger columns overflows, and that of narrower ones vanishes.
_LARGEST: Final = 1e18
_NARROWEST: Final = 4e-6

# Rows converted to float64 at a time: 4,096 images of 28×28 take 26 MB.
_ROWS_AT_A_TIME: Final = 4096
_SAMPLE_ROWS: Final = 1024
_COLUMNS_NAMED: Final = 5


def narrowed(array: NDArray[Any], *, where: str) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return numbers as float32, or as float64 where a column needs it, and say which columns are in the way.

    A column needs it if its values are large against their differences (Unix timestamps, whole numbers above 2²⁴), or
    out of the range in which float32 holds a variance. A network then subtracts the mean and divides in float64.

    Args:
        array: Finite numbers of any type, examples on axis 0.
        where: Names the data in messages.

    Shapes:
        array (n, *feature_shape), n at least 1; the result's is the same.
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
        exact, deviation = _spread_of(columns[:, coarse])
        coarse[coarse] = ~exact & (largest[coarse] * _ROUNDING > _HARMLESS * deviation)
    needs: NDArray[np.bool_] = far | coarse
    return needs


def _spread_of(columns: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which columns float32 holds exactly, and each one's standard deviation."""
    first = columns[0].astype(np.float64)  # subtracted, so that squares of offsets do not swallow the differences
    exact, total, squares = np.ones(first.shape, np.bool_), np.zeros_like(first), np.zeros_like(first)
    for rows in _chunks(columns):
        with np.errstate(over="ignore"):
            exact &= (rows.astype(np.float32) == rows).all(axis=0)
        rows = rows - first
        total += rows.sum(axis=0)
        squares += np.square(rows).sum(axis=0)
    mean = total / len(columns)
    return exact, np.sqrt(np.maximum(squares / len(columns) - np.square(mean), 0))


def _chunks(columns: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(columns), _ROWS_AT_A_TIME):
        yield columns[start : start + _ROWS_AT_A_TIME].astype(np.float64, copy=False)


def _merged_columns(columns: NDArray[Any], *, normalized: bool) -> list[int]:
    """Return the columns of which more than half of the different values are equal in float32."""
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
    shown = ", ".join(str(int(column)) for column in columns[:_COLUMNS_NAMED])
    more = f" and {len(columns) - _COLUMNS_NAMED} more" if len(columns) > _COLUMNS_NAMED else ""
    return f"feature{'s' if len(columns) > 1 else ''} {shown}{more} (counted from 0)"
