"""The processors that TensorFlow sees, and the memory that a fleet may take of them."""

import contextlib
from typing import Any, Final

import tensorflow as tf

from ..memory import available_memory

# The rest is for the data, the program's own temporaries, and what else runs.
_SHARE: Final = 0.4
_LEAST_BYTES: Final = 1 << 28


def prepare_devices(*, threads: int) -> None:
    """Bound TensorFlow's threads and let it take a GPU's memory as it needs it; must come before its first operation.

    Args:
        threads: For one operation, and for operations side by side.
    """
    with contextlib.suppress(RuntimeError):  # TensorFlow has begun: what it has is left alone
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)


def fleet_memory_bytes(*, n_workers: int) -> int:
    """Return how much memory one worker's fleet may take, of the GPU where there is one, else of the machine.

    Args:
        n_workers: Workers that share it.
    """
    gpus = [device for device in _local_devices() if device.device_type == "GPU"]
    free = int(gpus[0].memory_limit) if gpus else available_memory()
    return max(_LEAST_BYTES, int(free * _SHARE / n_workers))


def _local_devices() -> list[Any]:
    """Private to TensorFlow, whose public device list does not tell how much memory a device has."""
    from tensorflow.python.client import device_lib

    return list(device_lib.list_local_devices()) if tf.config.list_physical_devices("GPU") else []
