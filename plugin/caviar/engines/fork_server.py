"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import tempfile
from typing import Final

from ..keras_backend import check_keras_backend
from ..storage.addresses import store_kind

#: The longest directory name in bytes that leaves room for a socket's name in its address of at most 108.
_LONGEST_DIRECTORY: Final = 64
#: Where tempfile looks too, beside memory; multiprocessing makes a directory there that only this user can read.
_SHORT_DIRECTORIES: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_SAFE_PATH: Final = "PYTHONSAFEPATH"


def start_fork_server(tracking_uri: str | None = None) -> None:
    """Start the fork server, which loads TensorFlow while this process goes on; nothing happens if it is running.

    It ends with this process, once it has loaded what it is loading.

    Args:
        tracking_uri: MLflow's store, whose client is loaded too if workers need it; None for the home's own file.

    Raises:
        SpecError: If Keras is told to use another backend than TensorFlow.
    """
    check_keras_backend()
    context = multiprocessing.get_context("forkserver")
    preloaded = ["caviar.engines.preloaded", "caviar.engines.worker_process", *client_modules(tracking_uri or "")]
    context.set_forkserver_preload(preloaded)
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


def client_modules(tracking_uri: str) -> tuple[str, ...]:
    """Return what the fork server loads for MLflow's client; nothing for a SQLite file, which needs none."""
    kind = store_kind(tracking_uri)
    if kind in ("http", "https"):
        return ("caviar.engines.preloaded_mlflow",)
    if kind in ("postgresql", "mysql", "mssql"):
        return ("caviar.engines.preloaded_mlflow", "caviar.engines.preloaded_mlflow_tables")
    return ()


def _choose_directory() -> None:
    """If ``TMPDIR`` is too long for a socket's address, have multiprocessing put its sockets elsewhere.

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
