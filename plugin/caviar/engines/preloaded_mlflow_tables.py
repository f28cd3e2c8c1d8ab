"""What the fork server loads besides where MLflow's client writes into a database itself: 0.9 s of CPU."""

import contextlib
import gc
import warnings

with contextlib.suppress(Exception), warnings.catch_warnings():  # each worker meets the same error, and reports it
    warnings.simplefilter("ignore")  # mlflow 3.17 configures its tables with options that sqlalchemy 2.1 deprecates
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    gc.freeze()
