"""KerasTuner's Hyperband on the default space, until a trial reaches the target: a search of the peer's own."""

import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from caviar.space import DEFAULT_SPACE_TABLE
from peers.job import Data, Job, read_data, read_job, record_reached, record_ready
from peers.network import compiled_network


class SpaceModel(keras_tuner.HyperModel):  # type: ignore[misc]  # keras_tuner ships no types
    """Draws the default space with KerasTuner's own parameters."""

    def __init__(self, job: Job, data: Data) -> None:
        super().__init__()
        self.job, self.data = job, data

    def build(self, hp: Any) -> Any:
        """Return the drawn network, compiled; Keras' momentum is 1 minus what is drawn log-uniformly."""
        table = DEFAULT_SPACE_TABLE
        rate, complement, depth, units = (table[name] for name in ("learning_rate", "momentum", "depth", "units"))
        drawn = {
            "learning_rate": hp.Float("learning_rate", rate["low"], rate["high"], sampling="log"),
            "momentum": 1
            - hp.Float("one_minus_momentum", 1 - complement["high"], 1 - complement["low"], sampling="log"),
            "depth": hp.Int("depth", depth["low"], depth["high"]),
            "units": hp.Int("units", units["low"], units["high"], sampling="log"),
            "batch_norm": hp.Choice("batch_norm", table["batch_norm"]["choices"]),
        }
        return compiled_network(drawn, data=self.data, epochs=self.job.epochs, seed=self.job.seed)

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train with the drawn batch size."""
        batch_size = hp.Choice("batch_size", DEFAULT_SPACE_TABLE["batch_size"]["choices"])
        return model.fit(*args, batch_size=batch_size, **kwargs)


class StopAtTarget(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Ends the whole program when an epoch reaches the target."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  Keras' signature
        """Look at one epoch."""
        if self.job.target is not None and logs["val_accuracy"] >= self.job.target:
            record_reached(self.job, logs["val_accuracy"])
            raise SystemExit(0)  # KerasTuner takes any Exception for a failed trial

    def __deepcopy__(self, memo: Any) -> "StopAtTarget":
        """KerasTuner copies callbacks for every trial; this one has nothing of a trial's."""
        return self


def main(job: Job) -> None:
    """Search until the target is reached."""
    data = read_data(job.data)
    tuner = keras_tuner.Hyperband(
        SpaceModel(job, data),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=job.epochs,
        factor=3,
        hyperband_iterations=100,
        seed=job.seed,
        directory=job.scratch,
        project_name="hyperband",
    )
    record_ready(job)
    tuner.search(
        data.train_features,
        data.train_labels,
        validation_data=(data.validation_features, data.validation_labels),
        callbacks=[StopAtTarget(job)],
        verbose=0,
    )


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])))
