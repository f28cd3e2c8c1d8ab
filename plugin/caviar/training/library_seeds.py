"""Random numbers that a user's network draws without a seed follow its trial's seed."""

import contextlib
import random
import threading
from collections.abc import Iterator

import keras
import numpy as np

from .keras_private import keep_keras_seeds
from .tensorflow_private import keep_tensorflow_seed

# The seeds belong to the whole process, so threads take turns to build their networks.
_LOCK = threading.RLock()


@contextlib.contextmanager
def seeded_libraries(seed: int) -> Iterator[None]:
    """Seed Python, numpy, Keras and TensorFlow inside this context, and restore them afterwards.

    Keras draws the seeds of initializers and random layers when they are made; TensorFlow draws those of its operations
    when they are traced. A network built and traced inside the context is therefore the same, and draws the same
    numbers, each time.

    Args:
        seed: At least 0.
    """
    with _LOCK:
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
