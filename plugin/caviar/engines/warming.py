"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver
import os


def warm_up() -> None:
    """Start the fork server, which loads TensorFlow while this process looks at everything else.

    It ends with this process, once it has loaded what it is loading.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.engines.preloaded", "caviar.engines.worker_process"])
    # Python runs it with -c, and would look for every module in the present directory first.
    safe_path = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if safe_path is not None:
            os.environ["PYTHONSAFEPATH"] = safe_path
