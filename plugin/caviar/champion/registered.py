"""Registering a champion with MLflow, from where it is served and loaded without caviar."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..record.mlflow_private import quiet_mlflow
from ..record.run_content import STUDY_TAG
from ..record.tracking import connect, import_mlflow, tracking_errors
from ..storage.addresses import masked
from ..storage.home import Home

_logger = logging.getLogger(__name__)

#: The alias of the newest version: ``models:/NAME@champion``.
ALIAS: Final = "champion"
_NEEDED: Final = ("mlflow", "keras", "tensorflow", "numpy", "pandas", "scikit-learn", "skops")


def register_champion(home: Home, directory: Path, table: Mapping[str, Any], *, example: Any) -> str | None:
    """Log a champion as an MLflow model, and register it.

    Args:
        home: Where MLflow is.
        directory: The champion's.
        table: What its ``champion.json`` says.
        example: A few raw rows: a DataFrame or an array.

    Returns:
        Its address, ``models:/NAME@champion``; None where MLflow is down.
    """
    import_mlflow()
    try:
        with quiet_mlflow_registry(home.tracking_uri):
            return _register(home, directory, table, example)
    except tracking_errors() as error:
        _logger.warning("The champion was not registered with MLflow: %s", masked(str(error)).splitlines()[0])
        return None


@contextlib.contextmanager
def quiet_mlflow_registry(tracking_uri: str) -> Iterator[None]:
    """Let MLflow's functions that know no client use a store, and hold back what they print.

    MLflow keeps the address in a global and in the environment; both are as before afterwards.
    """
    import mlflow

    is_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]  # MLflow has no types here
    before = mlflow.get_tracking_uri() if is_set else None
    with quiet_mlflow(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it


def _register(home: Home, directory: Path, table: Mapping[str, Any], example: Any) -> str:
    import importlib.metadata

    import mlflow

    name = table["name"]
    client = connect(home.tracking_uri, artifact_location=home.mlflow_artifacts.as_uri())
    experiment = client.get_experiment_by_name(f"{name}-champion")
    assert experiment is not None, "the race has one"
    given = _shown_output(table)
    signature = mlflow.models.infer_signature(example, given)
    tags = {STUDY_TAG: experiment.name}
    with mlflow.start_run(experiment_id=experiment.experiment_id, run_name=f"{name} champion", tags=tags) as run:
        share = table["test"]["accuracy"]
        mlflow.log_metrics(
            {"test_accuracy": share[0], "test_accuracy_low": share[1], "test_accuracy_high": share[2]}
            | {f"test_{key}": table["test"][key] for key in ("log_loss", "balanced_accuracy", "macro_f1")}
        )
        mlflow.log_params({key: str(value) for key, value in table["configuration"].items()})
        mlflow.log_input(_dataset_of(table, example), context="training")
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"champion": str(directory)},
            signature=signature,
            input_example=example,
            pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in _NEEDED],
            registered_model_name=name,
        )
    del run
    client.set_registered_model_alias(name, ALIAS, str(logged.registered_model_version))
    return f"models:/{name}@{ALIAS}"


def _dataset_of(table: Mapping[str, Any], example: Any) -> Any:
    from mlflow.data.numpy_dataset import from_numpy
    from mlflow.data.pandas_dataset import from_pandas

    digest, source = table["data"]["fingerprint"][:36], table["data"]["dataset"]
    if hasattr(example, "columns"):
        return from_pandas(example, source=source, name=table["name"], digest=digest)
    return from_numpy(np.asarray(example), source=source, name=table["name"], digest=digest)


def _shown_output(table: Mapping[str, Any]) -> Any:
    import pandas as pd

    label: Any = {"integer": 0, "boolean": True}.get(table["label_type"], "")
    return pd.DataFrame({"label": [label]} | {f"p_{name}": np.zeros(1, np.float32) for name in table["classes"]})
