"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import tempfile
from typing import Final

from ..keras_backend import check_keras_backend

_LONGEST_DIRECTORY: Final = 64  # bytes that leave room for a socket's name in its address of at most 108
#: Where tempfile looks too, and memory; multiprocessing makes a directory there that only this user can read.
_SHORT_DIRECTORIES: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_SAFE_PATH: Final = "PYTHONSAFEPATH"


def start_fork_server() -> None:
    """Start the fork server, which loads TensorFlow while this process goes on; nothing happens if it is running.

    It ends with this process, once it has loaded what it is loading. Raises SpecError if Keras is told to use another
    backend.
    """
    check_keras_backend()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.engines.preloaded", "caviar.engines.worker_process"])
    _choose_directory()
    safe = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"  # else a file `random.py` where caviar is run would pass for Python's own
    try:
        # Undocumented, but unchanged from Python 3.4 to 3.14. The documented way, to start a process, would start one
        # that nobody needs. test_fork_server.py says if it goes.
        multiprocessing.forkserver.ensure_running()
    finally:
        if safe is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe


def _choose_directory() -> None:
    """If ``TMPDIR`` is too long for a socket's address, have multiprocessing make its directory, once, elsewhere."""
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_DIRECTORY:
        return
    before = tempfile.tempdir
    try:
        tempfile.tempdir = next((path for path in _SHORT_DIRECTORIES if os.access(path, os.W_OK | os.X_OK)), before)
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before
