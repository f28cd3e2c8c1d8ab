"""A lane's random numbers: the order of its examples, its dropout masks, and what a user's network draws unseeded.

The order and the row keys are drawn on the host, in numpy. In the program a shuffle is a sort, which costs trace time
and gives other orders on other devices; numpy takes 1 ms for 60,000 examples, and every trainer gets the same. The
masks come from a small integer hash of the keys, so they are equal in every program that trains the lane.
"""

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .keras_private import keep_keras_seeds
from .tensorflow_private import keep_tensorflow_seed

# One number for each use of a seed, so that no two uses share a stream.
_ORDER, _DROPOUT = 0, 1

# The finaliser "lowbias32" found by hash-prospector: the lowest bias known of two rounds.
# https://github.com/skeeto/hash-prospector
_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))
_LAST_SHIFT = 16

# The libraries' seeds belong to the whole process, so threads take turns to build their networks.
_LIBRARIES = threading.RLock()


def epoch_order(seed: int, *, epoch: int, n_examples: int) -> npt.NDArray[np.int32]:
    """Return the order in which an epoch, from 0, takes the training examples: a permutation, int32 (n_examples,).

    An epoch of S steps of B examples takes the first S·B.
    """
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(n_examples).astype(np.int32)


def dropout_row_keys(seed: int, *, epoch: int, n_rows: int) -> npt.NDArray[np.uint32]:
    """Return a random number for each row an epoch trains on, uint32 (n_rows,); `keep_scale` makes masks of them.

    There are (steps · batch size) rows; row r of step s is number s · batch size + r.
    """
    return np.random.default_rng((seed, _DROPOUT, epoch)).integers(0, 2**32, n_rows, dtype=np.uint32)


def dropout_column_keys(layer: int, n_units: int) -> npt.NDArray[np.uint32]:
    """Return the number that stands for each unit of a layer in `keep_scale`, uint32 (n_units,).

    Unit j's number depends on the layer and j alone, so a layer padded to a greater width gives its first units the
    same masks. The layer is its place among the network's dropout layers, below 2^12; n_units are the values of one
    example that enter it, below 2^20.
    """
    bits = np.arange(n_units, dtype=np.uint32) + np.uint32(layer << 20) + np.uint32(1)
    for shift, factor in _ROUNDS:
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return bits ^ (bits >> np.uint32(_LAST_SHIFT))


def keep_scale(row_keys: Any, column_keys: Any, rates: Any) -> Any:
    """Return what dropout multiplies its input by, in the rates' type: 0 where it drops, 1 / (1 − rate) where it keeps.

    Row r drops unit j where a hash of their keys, of `dropout_row_keys` and `dropout_column_keys`, falls below
    rate · 2^32; a unit's rate is the share dropped, in [0, 1). Several layers' units come one after the other.

    Shapes:
        row_keys (..., rows), column_keys (columns,), rates (..., columns); result (..., rows, columns).

    Source:
        Srivastava et al., JMLR 2014, in the inverted form that Keras uses; a counter-based generator as in Salmon et
        al., SC 2011.
    """
    bits = _hash(tf.bitwise.bitwise_xor(row_keys[..., :, None], column_keys))
    thresholds = tf.cast(tf.cast(rates, tf.float64) * 2.0**32, tf.uint32)
    kept = tf.cast(tf.greater_equal(bits, thresholds[..., None, :]), rates.dtype)
    return kept / (1.0 - rates[..., None, :])


def _hash(bits: Any) -> Any:
    for shift, factor in _ROUNDS:
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32)))
        bits *= tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(_LAST_SHIFT, tf.uint32)))


@contextlib.contextmanager
def seeded_libraries(seed: int) -> Iterator[None]:
    """Seed Python, numpy, Keras and TensorFlow inside this context, and restore them afterwards.

    Keras draws the seeds of initializers and random layers when they are made; TensorFlow draws those of its operations
    when they are traced. A network built and traced inside the context is therefore the same, and draws the same
    numbers, each time. The seed is at least 0.
    """
    with _LIBRARIES:
        python, numpy = random.getstate(), np.random.get_state()
        restore_keras, restore_tensorflow = keep_keras_seeds(), keep_tensorflow_seed()
        try:
            keras.utils.set_random_seed(seed % 2**32)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            restore_keras()
            restore_tensorflow()
