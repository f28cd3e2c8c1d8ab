"""The MLflow model of a champion. MLflow copies this file beside the network, so nothing of caviar is imported here.

It takes raw rows: a DataFrame with the columns of training, or an array of the shape of training. It gives a DataFrame
with each row's ``label`` and the probability of each class, ``p_CLASS``.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

MISSING = "(missing)"


class ChampionModel(PythonModel):
    """Loads the champion's directory, and asks its network."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network, and what prepares its inputs."""
        import keras

        directory = Path(context.artifacts["champion"])
        self.table = json.loads((directory / "champion.json").read_text(encoding="utf-8"))
        self.network = keras.saving.load_model(directory / "network.keras", compile=False)
        self.transformer = None
        if (directory / "preprocessing.skops").exists():
            import skops.io

            self.transformer = skops.io.load(directory / "preprocessing.skops", trusted=["numpy.dtype"])["transformer"]

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads type hints
        """Return the label and the probabilities of each row."""
        del context, params
        features = np.asarray(self._features(model_input), dtype=self.network.inputs[0].dtype)
        probabilities = np.asarray(self.network(features, training=False))
        names, kind = self.table["classes"], self.table["label_type"]
        classes = [int(name) if kind == "integer" else name == "True" if kind == "boolean" else name for name in names]
        given = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in names])
        given.insert(0, "label", [classes[place] for place in probabilities.argmax(axis=1)])
        return given

    def _features(self, rows: Any) -> Any:
        form = self.table["input"]
        if self.transformer is None:
            return np.asarray(rows, dtype=form["dtype"]).reshape(-1, *form["shape"])
        columns = {
            name: pd.to_numeric(rows[name]).to_numpy(np.float64) if kind == "number" else _texts(rows[name])
            for name, kind in form["columns"].items()
            if kind != "ignore"
        }
        return self.transformer.transform(pd.DataFrame(columns))


def _texts(column: Any) -> Any:
    codes, values = pd.factorize(column)
    return np.array([*map(_text, values), MISSING], dtype=object)[codes]


def _text(value: Any) -> str:
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text
    return str(int(number)) if number.is_integer() else str(number)


mlflow.models.set_model(ChampionModel())
