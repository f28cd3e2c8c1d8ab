"""The LCBench surrogate as an objective: learning curves of dense networks on 34 OpenML tasks, predicted, not recorded.

The surrogate is a network that yahpo_gym fitted to LCBench's recorded runs; what it returns are its predictions. It is
noise-free: the same hyperparameters always give the same curve.

Source:
    Zimmer, Lindauer, Hutter, Auto-PyTorch Tabular, TPAMI 2021 (LCBench); Pfisterer et al., YAHPO Gym, AutoML 2022.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caviar.parameters import FloatParameter, IntParameter
from caviar.space import SearchSpace

#: Epochs of a full training.
EPOCHS = 52
#: The surrogate's own seven hyperparameters, ranges and scales.
SPACE = SearchSpace(
    parameters=(
        IntParameter(name="batch_size", low=16, high=512, scale="log"),
        FloatParameter(name="learning_rate", low=1e-4, high=1e-1, scale="log"),
        FloatParameter(name="momentum", low=0.1, high=0.99),
        FloatParameter(name="weight_decay", low=1e-5, high=1e-1),
        IntParameter(name="num_layers", low=1, high=5),
        IntParameter(name="max_units", low=64, high=1024, scale="log"),
        FloatParameter(name="max_dropout", low=0.0, high=1.0),
    )
)
_NAMES = tuple(parameter.name for parameter in SPACE.parameters)
_VAL_ACCURACY = 1


class Surrogate:
    """Predicts validation accuracy by epoch.

    Args:
        directory: Holds ``model.onnx``, ``encoding.json`` and ``config_space.json``.
    """

    def __init__(self, directory: Path) -> None:
        import onnxruntime  # of the benchmark extra: needed to measure, not to import this module

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes are the parallelism
        self._session: Any = onnxruntime.InferenceSession(str(directory / "model.onnx"), options)
        self._codes: dict[str, int] = json.loads((directory / "encoding.json").read_text())["OpenML_task_id"]
        space = json.loads((directory / "config_space.json").read_text())["hyperparameters"]
        self.tasks: tuple[str, ...] = tuple(space[0]["choices"])

    def curves(self, task: str, params: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
        """Return the predicted validation accuracy of every epoch, in percent.

        Args:
            task: OpenML's id, one of ``tasks``.
            params: Of each network, the seven hyperparameters.

        Returns:
            Shape [len(params), 52], float64.
        """
        hyperparameters = np.array([[network[name] for name in _NAMES] for network in params], dtype=np.float32)
        return self._predict(task, hyperparameters, np.arange(1, EPOCHS + 1))

    def best_of_random(self, task: str, *, n: int, epochs: Sequence[int], seed: int) -> float:
        """Return the best predicted validation accuracy of n random networks at some epochs, in percent."""
        rng, best = np.random.default_rng(seed), 0.0
        for start in range(0, n, 2000):
            columns = [_draw(parameter, rng, min(2000, n - start)) for parameter in SPACE.parameters]
            drawn = np.stack(columns, axis=1).astype(np.float32)
            best = max(best, float(self._predict(task, drawn, np.asarray(epochs)).max()))
        return best

    def random_accuracies(self, task: str, *, n: int, epoch: int, seed: int) -> npt.NDArray[np.float64]:
        """Return the predicted validation accuracy of n random networks at one epoch, in percent, shape [n].

        One seed gives the same networks on every task.
        """
        rng = np.random.default_rng(seed)
        columns = [_draw(parameter, rng, n) for parameter in SPACE.parameters]
        return self._predict(task, np.stack(columns, axis=1).astype(np.float32), np.asarray([epoch]))[:, 0]

    def _predict(
        self, task: str, hyperparameters: npt.NDArray[np.float32], epochs: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the accuracies [n, len(epochs)] of hyperparameters [n, 7] in one query."""
        n = len(hyperparameters)
        repeated = np.repeat(hyperparameters, len(epochs), axis=0)
        rows = np.concatenate([np.tile(epochs, n).astype(np.float32)[:, None], repeated], axis=1)
        codes = np.full((len(rows), 1), self._codes[task], dtype=np.int32)
        (output,) = self._session.run(None, {"x_cat": codes, "x_cont": rows})
        accuracy: npt.NDArray[np.float64] = output[:, _VAL_ACCURACY].astype(np.float64).reshape(n, len(epochs))
        return accuracy


def _draw(parameter: Any, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    low, high = float(parameter.low), float(parameter.high)
    if parameter.scale == "log":
        low, high = math.log(low), math.log(high)
    values: npt.NDArray[np.float64] = rng.uniform(low, high, n)
    values = np.exp(values) if parameter.scale == "log" else values
    return values if isinstance(parameter, FloatParameter) else np.rint(values)
