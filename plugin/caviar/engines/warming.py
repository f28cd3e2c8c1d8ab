"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import tempfile
from typing import Final

from ..keras_backend import check_keras_backend

#: Bytes that a directory's name may have so that the address of a socket in it, of at most 108, has room.
_LONGEST_DIRECTORY = 64
#: Where tempfile looks too, beside memory; multiprocessing makes a directory there that only this user can read.
_SHORT_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_SAFE_PATH: Final = "PYTHONSAFEPATH"


def warm_up() -> None:
    """Start the fork server, which loads TensorFlow while this process looks at everything else.

    It ends with this process, once it has loaded what it is loading.

    Raises:
        SpecError: If Keras is told to use another backend than TensorFlow.
    """
    check_keras_backend()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.engines.preloaded", "caviar.engines.worker_process"])
    _choose_directory()
    safe = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"  # else a file `random.py` where caviar is run would pass for Python's own
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if safe is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe


def _choose_directory() -> None:
    """Have multiprocessing put its sockets elsewhere where ``TMPDIR`` is too long for a socket's address.

    It makes a directory of its own in what ``tempfile`` names, once for each process; tempfile is left as it was.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_DIRECTORY:
        return
    before = tempfile.tempdir
    try:
        tempfile.tempdir = next((path for path in _SHORT_DIRECTORIES if os.access(path, os.W_OK | os.X_OK)), before)
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before
