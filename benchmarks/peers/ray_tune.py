"""Ray Tune with ``model.fit``: one trial a core at a time, each in a process of its own; pruned by its ASHA."""

import os
import sys
from pathlib import Path
from typing import Any

from peers.job import HALVING, Job, read_data, read_job, record_ready, record_trial

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune


def train(config: dict[str, Any], job: Job) -> None:
    """Train one configuration in a worker process of Ray's, reporting every epoch."""
    import keras

    from peers.network import compiled_network, fit

    configuration, data, curve = job.configurations[config["index"]], read_data(job.data), []

    class Report(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            curve.append(float(logs["val_accuracy"]))
            if epoch == job.epochs - 1:
                record_trial(job, configuration.number, curve)
            tune.report({"val_accuracy": curve[-1]})

    hyperparameters = configuration.hyperparameters
    model = compiled_network(hyperparameters, data=data, epochs=job.epochs, seed=configuration.seed)
    fit(model, data, batch_size=hyperparameters["batch_size"], epochs=job.epochs, callbacks=[Report()])


def main(job: Job) -> None:
    """Train the list."""
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    scheduler = None
    if job.pruning:
        scheduler = tune.schedulers.ASHAScheduler(
            max_t=job.epochs,
            grace_period=HALVING["min_resource"],
            reduction_factor=HALVING["reduction_factor"],
        )
    tuner = tune.Tuner(
        tune.with_parameters(train, job=job),
        param_space={"index": tune.grid_search(list(range(len(job.configurations))))},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(job.scratch), name="list", verbose=0),
    )
    record_ready(job)
    results = tuner.fit()
    if job.pruning:  # a stopped trial's process cannot note its own end
        for result in results:
            curve = list(result.metrics_dataframe["val_accuracy"])
            if len(curve) < job.epochs:
                record_trial(job, job.configurations[result.config["index"]].number, curve)
    ray.shutdown()


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])))
