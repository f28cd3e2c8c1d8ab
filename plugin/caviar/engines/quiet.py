"""Importing TensorFlow without its notes to developers."""

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Final

from ..errors import FatalError
from ..imports import describe_error
from ..keras_backend import check_keras_backend

#: What Keras loads where it is there, and our processes do not use through Keras: 2.2 of the import's 6.4 s of CPU, and
#: on a new machine seconds more, since matplotlib then looks for fonts. Keras has no setting for it.
_SPARED: Final = ("matplotlib", "sklearn", "pandas")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow, holding back what its libraries print on stderr while they load.

    No setting silences these lines (TensorFlow 2.21 writes them before its log level is read), so the file descriptor
    is turned away for the import's time.

    Raises:
        SpecError: If Keras is told to use another backend.
        FatalError: If TensorFlow cannot be imported, whatever it raises.
    """
    check_keras_backend()
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            with _without_spared(), _without_collecting():
                import tensorflow
        except Exception as error:
            root: BaseException = error
            while root.__context__ is not None:  # TensorFlow wraps the first error in its own, traceback and all
                root = root.__context__
            raise FatalError(
                f"TensorFlow cannot be imported: {describe_error(root)}. `{sys.executable} -c 'import tensorflow'` "
                "shows all of it; mend the installation, or install TensorFlow again."
            ) from error
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
def _without_spared() -> Iterator[None]:
    """Let Keras believe that what it would load for its plots, wrappers and tables is not installed.

    Whoever imports such a package afterwards gets it as ever; only what Keras makes of it is missing in this process.
    """
    hidden = [name for name in _SPARED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
