"""Saving Keras networks."""

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_saving() -> Iterator[None]:
    """Hold back a warning about Keras itself: its saving calls numpy's ``__array__`` as numpy 1 did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
