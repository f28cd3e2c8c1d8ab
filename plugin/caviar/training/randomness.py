"""A lane's random numbers: the order of its examples, and its dropout masks.

They are drawn on the host, in numpy. In the program a shuffle is a sort, which costs trace time and gives other
orders on other devices; 60,000 examples take numpy 1 ms, and every trainer gets the same.
"""

import numpy as np
import numpy.typing as npt

# One number for each use of a seed, so that no two uses share a stream.
_ORDER, _DROPOUT = 0, 1


def epoch_order(seed: int, *, epoch: int, n_examples: int) -> npt.NDArray[np.int32]:
    """Return the order in which an epoch takes the examples.

    Args:
        seed: The lane's seed, at least 0.
        epoch: Epochs done before, from 0.
        n_examples: Examples in the training split.

    Returns:
        A permutation that depends on nothing but the arguments. An epoch of S steps of B examples takes its first S·B.

    Shapes:
        (n_examples,), int32.
    """
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(n_examples).astype(np.int32)


def dropout_row_keys(seed: int, *, epoch: int, n_rows: int) -> npt.NDArray[np.uint32]:
    """Return one random number for each row that an epoch trains on; `keep_scale` makes masks of them.

    Args:
        seed: The lane's seed, at least 0.
        epoch: Epochs done before, from 0.
        n_rows: Steps times batch size.

    Returns:
        Uniform numbers that depend on nothing but the arguments.

    Shapes:
        (n_rows,), uint32, row r of step s at s · batch size + r.
    """
    return np.random.default_rng((seed, _DROPOUT, epoch)).integers(0, 2**32, n_rows, dtype=np.uint32)
