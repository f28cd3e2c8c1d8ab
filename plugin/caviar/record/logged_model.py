"""A trial's saved network as a logged model of MLflow, linked to the trial's run.

The file is wrapped as it is: neither Keras nor TensorFlow is imported. MLflow loads it like any model of its Keras
flavor.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .run_content import STUDY_TAG, TRIAL_NUMBER_TAG
from .tracking import quiet_imports

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

#: On a run whose network was logged: the model's id.
MODEL_TAG: Final = "caviar.model"
_NEEDED: Final = ("tensorflow", "keras", "numpy", "mlflow")


def log_network(
    client: "MlflowClient", runs: "Mapping[int, Sequence[Run]]", *, number: int, path: Path, versions: Mapping[str, str]
) -> str | None:
    """Log a trial's network, unless that was done before.

    Args:
        client: Of the store.
        runs: The study's, by trial number.
        number: The trial's.
        path: Its network, a Keras file.
        versions: What it was made with.

    Returns:
        The model's id, by which ``mlflow.keras.load_model("models:/ID")`` finds it; None where the trial has no run.
    """
    from mlflow.entities import LoggedModelOutput

    if not runs.get(number):
        return None
    run = runs[number][0]
    if MODEL_TAG in run.data.tags:
        return run.data.tags[MODEL_TAG]
    tags = {TRIAL_NUMBER_TAG: str(number), STUDY_TAG: run.data.tags.get(STUDY_TAG, "")}
    model = client.create_logged_model(
        run.info.experiment_id,
        name=f"trial-{number}",
        source_run_id=run.info.run_id,
        tags=tags,
        params=dict(run.data.params),
        model_type="keras",
    )
    with tempfile.TemporaryDirectory() as name:
        _write_model(Path(name), path, run_id=run.info.run_id, model_id=model.model_id, versions=versions)
        client.log_model_artifacts(model.model_id, name)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.set_tag(run.info.run_id, MODEL_TAG, model.model_id)
    return str(model.model_id)


def _write_model(directory: Path, network: Path, *, run_id: str, model_id: str, versions: Mapping[str, str]) -> None:
    """Write what ``mlflow.keras.save_model`` would."""
    with quiet_imports():
        import mlflow.pyfunc
        from mlflow.models import Model

    data = directory / "data"
    data.mkdir()
    shutil.copy(network, data / "model.keras")
    (data / "keras_module.txt").write_text("keras", "utf-8")
    needed = "".join(f"{name}=={versions[name]}\n" for name in _NEEDED if name in versions)
    (directory / "requirements.txt").write_text(needed, "utf-8")
    env = {"python": versions.get("python", ""), "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (directory / "python_env.yaml").write_text(json.dumps(env), "utf-8")  # YAML takes JSON
    model: Any = Model(run_id=run_id, model_id=model_id, signature=_signature(network))  # has no types
    keras = {"keras_version": versions.get("keras", ""), "keras_backend": "tensorflow"}
    model.add_flavor("keras", data="data", save_exported_model=False, **keras)
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    model.save(str(directory / "MLmodel"))


def _signature(network: Path) -> "ModelSignature | None":
    """Return what a network takes, read from its file; None for one that does not begin with its input."""
    import numpy as np

    with quiet_imports():
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

    with zipfile.ZipFile(network) as file:
        layers = json.loads(file.read("config.json"))["config"].get("layers", [])
    given = layers[0]["config"] if layers else {}
    if "batch_shape" not in given:
        return None
    return ModelSignature(inputs=Schema([TensorSpec(np.dtype(given["dtype"]), (-1, *given["batch_shape"][1:]))]))
