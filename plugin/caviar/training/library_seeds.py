"""What a network of the user's own draws without a seed follows its trial's, and the process is left as it was."""

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# The seeds belong to the whole process: networks of several threads are built one after the other.
_LOCK = threading.RLock()


@contextlib.contextmanager
def seeded_libraries(seed: int) -> Iterator[None]:
    """Seed Python, numpy, Keras and TensorFlow within, and put them back as they were.

    Keras draws the seeds of initializers and of random layers when these are made, TensorFlow those of its operations
    when they are traced: a network that is built and traced within is the same, and draws the same, each time.

    Args:
        seed: At least 0.
    """
    with _LOCK:
        python, numpy, put_back = random.getstate(), np.random.get_state(), _keep_framework_seeds()
        try:
            keras.utils.set_random_seed(seed % 2**32)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            put_back()


def _keep_framework_seeds() -> Any:
    """Return a function that puts the seeds of Keras and TensorFlow back as they are now.

    Both can only be set by their public functions, and not read: what holds them is private.
    """
    from keras.src.backend.common import global_state
    from tensorflow.python.eager import context

    names = ("global_random_seed", "global_seed_generator")
    keras_values = {name: global_state.get_global_attribute(name) for name in names}
    tensorflow = context.context()
    seed, draws = tensorflow._seed, getattr(tensorflow, "_rng", None)  # there once a seed was set

    def put_back() -> None:
        for name, value in keras_values.items():
            global_state.set_global_attribute(name, value)
        tensorflow._seed, tensorflow._rng = seed, draws

    return put_back
