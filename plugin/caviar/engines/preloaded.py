"""What the fork server loads once, so that each worker process starts in a second and not in six.

Importing this runs no TensorFlow operation: a process forked afterwards starts TensorFlow's threads itself. A Ctrl-C
reaches every process of the terminal: it ends the fork server while it loads, without a word. A worker is deaf to it
until it has handlers of its own, and the supervisor's SIGTERM ends it until then.
"""

import contextlib
import gc
import os
import signal

from .quiet import import_tensorflow_quietly

signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))
with contextlib.suppress(Exception):  # each worker meets it again, and says what it is
    import_tensorflow_quietly()
    gc.freeze()  # the imports that follow need not look for garbage among all that stays: 0.4 s

    import keras  # noqa: F401  (after TensorFlow, whose notes are held back)
    import tensorflow_datasets  # noqa: F401

    from .. import training  # noqa: F401

signal.signal(signal.SIGINT, signal.SIG_IGN)
