"""Importing TensorFlow without its notes to developers."""

import os
import sys
import tempfile


def import_tensorflow_quietly() -> None:
    """Import TensorFlow, holding back what its libraries print on stderr while they load.

    No setting silences these lines (TensorFlow 2.21 writes them before its log level is read), so the file descriptor
    is turned away for the import's time. If the import fails, they are shown.

    Raises:
        ImportError: If TensorFlow cannot be imported.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            import tensorflow
        except BaseException:
            held_back.seek(0)
            os.write(kept, held_back.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    del tensorflow
