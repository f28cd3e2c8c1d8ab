"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver
import os
from typing import Final

_SAFE_PATH: Final = "PYTHONSAFEPATH"


def warm_up() -> None:
    """Start the fork server, which loads TensorFlow while this process looks at everything else.

    It ends with this process, once it has loaded what it is loading.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.engines.preloaded", "caviar.engines.worker_process"])
    safe = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"  # else a file `random.py` where caviar is run would pass for Python's own
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if safe is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe
