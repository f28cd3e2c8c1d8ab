"""Starting the fork server early: this module alone is loaded before it."""

import multiprocessing
import multiprocessing.forkserver

from ..keras_backend import check_keras_backend


def warm_up() -> None:
    """Start the fork server, which loads TensorFlow while this process looks at everything else.

    It ends with this process, once it has loaded what it is loading.

    Raises:
        SpecError: If Keras is told to use another backend than TensorFlow.
    """
    check_keras_backend()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caviar.engines.preloaded", "caviar.engines.worker_process"])
    multiprocessing.forkserver.ensure_running()
