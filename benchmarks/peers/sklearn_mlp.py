"""scikit-learn's MLPClassifier, for configurations that fit it: dense ReLU layers, SGD with momentum, no batch norm."""

import sys
import warnings
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from caviar.space import make_configs
from peers.job import Data, Job, read_data, read_job, record_ready, record_trial


def main(job: Job) -> None:
    """Train the list; the weights are scikit-learn's own."""
    data = read_data(job.data)
    record_ready(job)
    for configuration in job.configurations:
        network, training = make_configs(configuration.hyperparameters, epochs=job.epochs)
        classifier = MLPClassifier(
            hidden_layer_sizes=network.widths,
            solver="sgd",
            alpha=0.0,
            batch_size=training.batch_size,
            learning_rate_init=training.learning_rate,
            momentum=training.momentum,
            nesterovs_momentum=False,
            max_iter=job.epochs,
            n_iter_no_change=job.epochs,
            random_state=configuration.seed,
        )
        record_trial(job, configuration.number, train(make_pipeline(StandardScaler(), classifier), data))


def train(pipeline: Any, data: Data) -> list[float]:
    """Return the validation accuracy after the last epoch, or nothing where scikit-learn gave up on NaN."""
    rows, others = (values.reshape(len(values), -1) for values in (data.train_features, data.validation_features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says that the epochs are over, which they are to be
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow, where the learning rate is too high
        try:
            pipeline.fit(rows, data.train_labels)
        except ValueError:
            return []
        return [float(pipeline.score(others, data.validation_labels))]


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])))
