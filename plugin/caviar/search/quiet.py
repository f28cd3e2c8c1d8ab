"""Importing TensorFlow without its notes to developers."""

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator


def import_tensorflow_quietly() -> None:
    """Import TensorFlow, holding back what its libraries print on stderr while they load.

    No setting silences these lines (TensorFlow 2.21 writes them before its log level is read), so the file descriptor
    is turned away for the import's time. If the import fails, they are shown.

    Raises:
        ImportError: If TensorFlow cannot be imported.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            with _without_matplotlib(), _without_collecting():
                import tensorflow
        except BaseException:
            held_back.seek(0)
            os.write(kept, held_back.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    del tensorflow


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Look for no garbage while hundreds of thousands of objects are made to stay: a fifth of the import's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Let Keras believe that there is no matplotlib, which it would load for its plots, where there is one.

    That takes an eighth of the import's time, and on a new machine seconds more, since matplotlib then looks for fonts.
    """
    if "matplotlib" in sys.modules:
        yield
        return
    sys.modules["matplotlib"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        del sys.modules["matplotlib"]
