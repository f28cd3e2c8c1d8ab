"""Importing TensorFlow without its notes to developers, and without what our processes do not use."""

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

#: What Keras imports if it is installed, for plots, wrappers and tables that our processes do not use. It takes 1.9 to
#: 3.6 of the import's 4.4 to 6.1 s of CPU, and on a new machine seconds more, since matplotlib then looks for fonts.
#: Keras 3.15 has no setting for it, and does without a package that is missing.
_SPARED: Final = ("matplotlib", "sklearn", "pandas")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow, holding back what its libraries print on stderr while they load.

    No setting silences these lines (TensorFlow 2.21 writes them before its log level is read), so the file descriptor
    is redirected for the time of the import. Raises SpecError if Keras is told to use another backend, FatalError if
    TensorFlow cannot be imported, whatever it raises.
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
            with _sparingly():
                import tensorflow  # noqa: F401
        except Exception as error:
            root: BaseException = error
            while root.__context__ is not None:  # TensorFlow wraps the first error in its own, traceback and all
                root = root.__context__
            raise FatalError(
                f"TensorFlow cannot be imported: {describe_error(root)}. `{sys.executable} -c 'import tensorflow'` "
                "shows the whole error. Repair the installation, or install TensorFlow again."
            ) from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _sparingly() -> Iterator[None]:
    """Find none of the packages to be spared, which are imported as ever afterwards, and look for no garbage.

    Hundreds of thousands of objects are made to stay: looking for garbage takes a fifth of the import's time.
    """
    spared, collects = [name for name in _SPARED if name not in sys.modules], gc.isenabled()
    gc.disable()
    for name in spared:
        sys.modules[name] = None  # type: ignore[assignment]  # what makes Python raise ModuleNotFoundError
    try:
        yield
    finally:
        for name in spared:
            del sys.modules[name]
        if collects:
            gc.enable()
