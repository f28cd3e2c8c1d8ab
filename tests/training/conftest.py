"""What the tests of training share."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture
def float64() -> Iterator[None]:
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # Keras remembers the policy that it made of the first floatx
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
