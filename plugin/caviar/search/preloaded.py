"""What the fork server loads once, so that each worker process starts in a second and not in six.

Importing this runs no TensorFlow operation: a process forked afterwards starts TensorFlow's threads itself.
"""

from .quiet import import_tensorflow_quietly

import_tensorflow_quietly()

import keras  # noqa: E402, F401  (after TensorFlow, whose notes are held back)
import tensorflow_datasets  # noqa: E402, F401
