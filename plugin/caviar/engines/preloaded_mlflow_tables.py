"""What the fork server loads besides where MLflow's client writes into a database itself: 0.9 s of CPU."""

import contextlib
import gc

from ..record.tracking import quiet_imports

with contextlib.suppress(Exception), quiet_imports():  # each worker meets the same error, and reports it
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    gc.freeze()
