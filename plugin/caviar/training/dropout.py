"""Dropout masks from a small integer hash, equal in every program that trains a lane."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# The finaliser "lowbias32" found by hash-prospector: the lowest bias known of two rounds.
# https://github.com/skeeto/hash-prospector
_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))
_LAST_SHIFT = 16


def dropout_column_keys(layer: int, n_units: int) -> npt.NDArray[np.uint32]:
    """Return the number that stands for each unit of a layer in `keep_scale`.

    Args:
        layer: The dropout layer's place among the network's, from 0; below 2^12.
        n_units: Units that enter the layer, all axes but the batch's taken together; below 2^20.

    Returns:
        Unit j's number depends on the layer and j alone, so a layer padded to a greater width gives its first units
        the same masks.

    Shapes:
        (n_units,), uint32.
    """
    return _mix_numpy(np.arange(n_units, dtype=np.uint32) + np.uint32(layer << 20) + np.uint32(1))


def keep_scale(row_keys: Any, column_keys: Any, rates: Any) -> Any:
    """Return what dropout multiplies its input by: 0 where it drops, 1 / (1 − rate) where it keeps.

    Args:
        row_keys: A random number for each row of the batch, from `dropout_row_keys`.
        column_keys: The units' numbers, from `dropout_column_keys`; of several layers, one behind the other.
        rates: Share dropped, in [0, 1), for each unit.

    Returns:
        The scales, in the rates' type. Row r drops unit j where a hash of both keys falls below rate · 2^32.

    Shapes:
        row_keys (..., rows), column_keys (columns,), rates (..., columns); result (..., rows, columns).

    Source:
        Srivastava et al., JMLR 2014, in the inverted form that Keras uses; a counter-based generator as in Salmon et
        al., SC 2011.
    """
    bits = _mix(tf.bitwise.bitwise_xor(row_keys[..., :, None], column_keys))
    thresholds = tf.cast(tf.cast(rates, tf.float64) * 2.0**32, tf.uint32)
    kept = tf.cast(tf.greater_equal(bits, thresholds[..., None, :]), rates.dtype)
    return kept / (1.0 - rates[..., None, :])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DropoutSite:
    """A Dropout layer of a model, whose masks and rate are ours.

    Attributes:
        layer: The keras.layers.Dropout; it is not changed.
        n_units: Values of one example that enter it.
    """

    layer: Any
    n_units: int


Substitutes = Mapping[int, Callable[[Any], Any]]
"""What runs in a layer's place, by the layer's ``id``."""


class DropoutMasks:
    """The masks of all dropout layers of a network, drawn together once a step.

    One tf.cond holds the masks of all layers, so that a rate of 0 costs almost nothing: tracing a cond takes 20 ms.

    Args:
        sites: The layers, at least one.
        rates: Tensor (n_sites,), float64: the rates of this epoch.
    """

    def __init__(self, sites: Sequence[DropoutSite], rates: Any) -> None:
        self._sites = sites
        self._sizes = [site.n_units for site in sites]
        self._column_keys = np.concatenate([dropout_column_keys(i, size) for i, size in enumerate(self._sizes)])
        self._any = tf.reduce_any(rates > 0)
        self._rates = tf.gather(rates, np.repeat(np.arange(len(sites)), self._sizes))

    def substitutes(self, row_keys: Any) -> Substitutes:
        """Return the functions that run in the layers' places in one step, of uint32 row keys (batch_size,)."""
        kind = self._sites[0].layer.compute_dtype
        shape = (row_keys.shape[0], sum(self._sizes))
        scales = tf.cond(
            self._any,
            lambda: keep_scale(row_keys, self._column_keys, tf.cast(self._rates, kind)),
            lambda: tf.ones(shape, kind),
        )
        parts = tf.split(scales, self._sizes, axis=-1)
        return {id(site.layer): _multiplier(part) for site, part in zip(self._sites, parts, strict=True)}


def _multiplier(scale: Any) -> Callable[[Any], Any]:
    def multiply(features: Any) -> Any:
        # A reshape to the same shape is an operation too, so dense layers go without.
        shaped = scale if features.shape == scale.shape else tf.reshape(scale, features.shape)
        return features * tf.cast(shaped, features.dtype)

    return multiply


def _mix(bits: Any) -> Any:
    for shift, factor in _ROUNDS:
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32)))
        bits *= tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(_LAST_SHIFT, tf.uint32)))


def _mix_numpy(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    for shift, factor in _ROUNDS:
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return bits ^ (bits >> np.uint32(_LAST_SHIFT))
