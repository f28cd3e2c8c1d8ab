"""What the fork server loads besides where MLflow's client writes the runs: mlflow, which takes 1.3 s of CPU.

Each worker would import it with its first trial's end, beside its training. Nothing is imported for a SQLite file,
which is written straight.
"""

import contextlib
import gc

from ..record.tracking import import_mlflow

with contextlib.suppress(Exception):  # each worker meets the same error, and reports it
    import_mlflow()
    gc.freeze()
