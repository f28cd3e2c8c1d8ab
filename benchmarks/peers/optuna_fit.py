"""Stock Optuna with ``model.fit``: the study in memory, which costs Optuna least; pruned by optuna-integration."""

import sys
from pathlib import Path

import keras
import optuna

from caviar.space import DEFAULT_SPACE_TABLE, parse_space
from peers.job import HALVING, Job, read_data, read_job, record_ready, record_trial
from peers.network import compiled_network, fit


def main(job: Job) -> None:
    """Train the list, enqueued in its order."""
    data, space = read_data(job.data), parse_space(DEFAULT_SPACE_TABLE)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(**HALVING) if job.pruning else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for configuration in job.configurations:
        study.enqueue_trial(dict(configuration.params))

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        configuration, curve = job.configurations[trial.number], _Curve()
        hyperparameters = space.suggest(trial)
        model = compiled_network(hyperparameters, data=data, epochs=job.epochs, seed=configuration.seed)
        callbacks = [curve]
        if job.pruning:
            from optuna_integration import KerasPruningCallback

            callbacks.append(KerasPruningCallback(trial, "val_accuracy"))
        try:
            fit(model, data, batch_size=hyperparameters["batch_size"], epochs=job.epochs, callbacks=callbacks)
        finally:
            record_trial(job, configuration.number, curve.values)
        return max(curve.values)

    record_ready(job)
    study.optimize(objective, n_trials=len(job.configurations))


class _Curve(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Keeps the validation accuracy by epoch, of a pruned trial too."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002  Keras' signature
        """Keep one epoch's."""
        self.values.append(float((logs or {})["val_accuracy"]))


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])))
