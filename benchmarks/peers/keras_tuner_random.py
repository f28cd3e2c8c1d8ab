"""KerasTuner's RandomSearch: its stock tuner, whose oracle hands out the fixed list in place of random draws."""

import sys
from pathlib import Path
from typing import Any

import keras_tuner

from peers.job import Configuration, Data, Job, read_data, read_job, record_ready, record_trial
from peers.network import compiled_network, fit


class FixedOracle(keras_tuner.Oracle):  # type: ignore[misc]  # keras_tuner ships no types
    """Hands out the numbers of the list, one a trial: what RandomSearchOracle does, without drawing."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next trial's values; KerasTuner counts its trials up from 0."""
        return {"status": "RUNNING", "values": {"index": int(trial_id)}}


class FixedModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """Builds and trains the configuration that a trial's number names."""

    def __init__(self, job: Job, data: Data) -> None:
        super().__init__()
        self.job, self.data = job, data

    def build(self, hp: Any) -> Any:
        """Return the configuration's network, compiled."""
        chosen = self._chosen(hp)
        return compiled_network(chosen.hyperparameters, data=self.data, epochs=self.job.epochs, seed=chosen.seed)

    def fit(self, hp: Any, model: Any, *_: Any, callbacks: Any = (), **__: Any) -> Any:
        """Train with the configuration's batch size and KerasTuner's callbacks."""
        chosen = self._chosen(hp)
        batch_size = chosen.hyperparameters["batch_size"]
        curve = fit(model, self.data, batch_size=batch_size, epochs=self.job.epochs, callbacks=callbacks)
        record_trial(self.job, chosen.number, curve)
        return {"val_accuracy": max(curve)}

    def _chosen(self, hp: Any) -> Configuration:
        index: int = hp.Int("index", 0, len(self.job.configurations) - 1)
        return self.job.configurations[index]


def main(job: Job) -> None:
    """Train the list."""
    oracle = FixedOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=len(job.configurations), seed=job.seed
    )
    model = FixedModel(job, read_data(job.data))
    tuner = keras_tuner.Tuner(oracle=oracle, hypermodel=model, directory=job.scratch, project_name="random")
    record_ready(job)
    tuner.search(verbose=0)


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])))
