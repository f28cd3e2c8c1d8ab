"""The processors that TensorFlow sees, and how much of their memory a fleet may take."""

import contextlib
from typing import Final

import tensorflow as tf

from ..memory import available_memory
from .tensorflow_private import memory_limit

# The rest is for the data, the program's temporaries, and whatever else runs.
_SHARE: Final = 0.4
_LEAST_BYTES: Final = 1 << 28


def prepare_devices(*, threads: int) -> None:
    """Limit TensorFlow's threads and let it claim a GPU's memory as needed; call this before its first operation."""
    with contextlib.suppress(RuntimeError):  # TensorFlow has already started: leave it as it is
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)


def fleet_memory_bytes(*, n_workers: int) -> int:
    """Return how much memory each worker's fleets may take: of the GPU if there is one, else of the machine."""
    of_gpu = memory_limit("GPU")
    free = available_memory() if of_gpu is None else of_gpu
    return max(_LEAST_BYTES, int(free * _SHARE / n_workers))
