"""What the fork server loads once, so that each worker process starts in a second and not in six.

Importing this runs no TensorFlow operation, so each forked process starts TensorFlow's threads itself. A Ctrl-C reaches
every process of the terminal. While the fork server loads, it ends it without a message. A worker ignores it until it
has handlers of its own; until then the supervisor ends it by SIGTERM.
"""

import contextlib
import gc
import os
import signal

from .quiet import import_tensorflow_quietly

signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))
with contextlib.suppress(Exception):  # each worker meets the same error, and reports it
    import_tensorflow_quietly()
    gc.freeze()  # so that later imports do not look for garbage among all that stays: 0.4 s

    import keras  # noqa: F401  (after TensorFlow, whose notes are held back)
    import optuna.artifacts  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    from .. import training  # noqa: F401
    from ..data import sources  # noqa: F401
    from ..storage.database import import_database_code

    import_database_code("sqlite://")  # a server's driver is left to the workers that need it

signal.signal(signal.SIGINT, signal.SIG_IGN)
