"""Importing TensorFlow without its notes to developers, and without what our processes do not use."""

import contextlib
import gc
import importlib.abc
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType
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
    is redirected for the time of the import.

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
            with _without_spared_packages(), _without_garbage_collection():
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
def _without_garbage_collection() -> Iterator[None]:
    """Look for no garbage while hundreds of thousands of objects are made to stay: a fifth of the import's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _NotInstalled(importlib.abc.MetaPathFinder):
    """Finds no package of some names, and ends the search for them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse a package to be spared; leave any other to the finders that follow."""
        del path, target  # parts of the interface
        if fullname in _SPARED:
            raise ModuleNotFoundError(f"{fullname} is spared while TensorFlow is imported", name=fullname)


@contextlib.contextmanager
def _without_spared_packages() -> Iterator[None]:
    """Let an import find none of the packages to be spared; afterwards they are imported as ever."""
    finder = _NotInstalled()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
