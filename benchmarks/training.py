"""Steps a second of five ways to train one small Keras network, and what a hyperparameter in a variable saves.

Digits, 64-64-64-10 with batch norm before the activation, SGD with momentum, batch 32, one process. Start-ups are
measured first, on fresh networks, then steps, in rounds: in each round every way trains for a second or less, so that
what else the machine does falls on all of them. ``model.fit`` and the loops only train; the compiled epochs validate
after each epoch, besides.

    python benchmarks/training.py [--repeats 5] [--rounds 15]
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from caviar.config import NetworkConfig, TrainingConfig
from caviar.data.dataset import Dataset
from caviar.data.loading import load_dataset
from caviar.networks import build_network, fit_normalization
from caviar.training import SoloTrainer, TensorSplits

BATCH, RATE, MOMENTUM = 32, 0.05, 0.9
NETWORK = NetworkConfig(depth=3, units=64, batch_norm="before_activation")
TRAINING = TrainingConfig(batch_size=BATCH, learning_rate=RATE, momentum=MOMENTUM)

RunEpochs = Callable[[int], None]
Starter = Callable[[Any, TensorSplits], RunEpochs]


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="fresh networks a way, for the start-up (default: 5)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of steps (default: 15)")
    arguments = parser.parse_args()
    print_machine()
    dataset = load_dataset("digits")
    splits = TensorSplits.from_dataset(dataset)
    firsts: dict[str, list[float]] = {way: [] for way in WAYS}
    steps: dict[str, list[float]] = {way: [] for way in WAYS}
    running: dict[str, RunEpochs] = {}
    for repeat in range(-1, arguments.repeats):
        for way, (start, _) in WAYS.items():
            model = network(dataset, seed=repeat + 1)
            begin = time.perf_counter()
            running[way] = start(model, splits)
            running[way](1)
            if repeat >= 0:  # the first round pays for what TensorFlow loads once a process
                firsts[way].append(time.perf_counter() - begin)
    for _ in range(arguments.rounds):
        for way, (_, epochs) in WAYS.items():
            begin = time.perf_counter()
            running[way](epochs)
            steps[way].append((time.perf_counter() - begin) / (epochs * (splits.n_train // BATCH)))
    print_table(steps, firsts)
    print_traces(dataset, splits)
    print(f"\nload average after: {load_average()}")


def network(dataset: Dataset, *, seed: int) -> Any:
    return build_network(
        NETWORK,
        feature_shape=dataset.feature_shape,
        n_classes=dataset.n_classes,
        normalization=fit_normalization(dataset.train.features),
        seed=seed,
    )


def start_fit(model: Any, splits: TensorSplits) -> RunEpochs:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, metrics=["accuracy"])
    rows = splits.n_train // BATCH * BATCH
    features, labels = splits.train_features.numpy()[:rows], splits.train_labels.numpy()[:rows]
    return lambda epochs: model.fit(features, labels, batch_size=BATCH, epochs=epochs, verbose=0)


def start_loop(model: Any, splits: TensorSplits, *, compiled: bool) -> RunEpochs:
    step = make_step(model)
    if compiled:
        step = tf.function(step)

    def run_epochs(epochs: int) -> None:
        for _ in range(epochs):
            for features, labels in batches(splits):
                result = step(features, labels, RATE)
        result.numpy()

    return run_epochs


def make_step(model: Any) -> Any:
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(features: Any, labels: Any, learning_rate: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(features, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.learning_rate = learning_rate
        optimizer.apply(gradients, variables)
        return loss

    return step


def batches(splits: TensorSplits) -> Iterator[tuple[Any, Any]]:
    order = tf.random.shuffle(tf.range(splits.n_train))
    for start in range(0, splits.n_train - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        yield tf.cast(tf.gather(splits.train_features, rows), tf.float32), tf.gather(splits.train_labels, rows)


def start_trainer(model: Any, splits: TensorSplits, *, jit_compile: bool) -> RunEpochs:
    trainer = SoloTrainer(model, splits, TRAINING, seed=0, jit_compile=jit_compile)

    def run_epochs(epochs: int) -> None:
        for _ in range(epochs):
            trainer.run_epoch()

    return run_epochs


WAYS: dict[str, tuple[Starter, int]] = {
    "model.fit": (start_fit, 8),
    "eager loop": (lambda model, splits: start_loop(model, splits, compiled=False), 1),
    "tf.function a step": (lambda model, splits: start_loop(model, splits, compiled=True), 10),
    "tf.function an epoch (ours)": (lambda model, splits: start_trainer(model, splits, jit_compile=False), 60),
    "the same by XLA (ours)": (lambda model, splits: start_trainer(model, splits, jit_compile=True), 60),
}


def print_table(steps: dict[str, list[float]], firsts: dict[str, list[float]]) -> None:
    print(f"\n{'way':<28} {'ms a step':>22} {'steps/s':>8} {'x model.fit':>20} {'first epoch s':>20}")
    for way, seconds in steps.items():
        ratios = [fit / own for fit, own in zip(steps["model.fit"], seconds, strict=True)]
        print(
            f"{way:<28} {spread([1000 * value for value in seconds], 3):>22} {1 / statistics.median(seconds):>8.0f} "
            f"{spread(ratios, 1):>20} {spread(firsts[way], 2):>20}"
        )
    print("median (least to greatest); ratios are taken round by round; the first epoch includes trace and compilation")


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_traces(dataset: Dataset, splits: TensorSplits) -> None:
    """Print how often a step is traced while its learning rate takes 10 values, in a variable and as a constant."""
    rates = np.geomspace(0.1, 0.001, 10)
    features, labels = next(batches(splits))
    print(f"\n{'learning rate, 10 values':<28} {'traces':>7} {'seconds':>8}")
    for kind in ("Python constant", "tf.Variable"):
        step = tf.function(make_step(network(dataset, seed=0)))
        held = tf.Variable(0.0)
        begin = time.perf_counter()
        for rate in rates:
            held.assign(rate)
            step(features, labels, float(rate) if kind == "Python constant" else held).numpy()
        print(f"{kind:<28} {step.experimental_get_tracing_count():>7} {time.perf_counter() - begin:>8.2f}")


def print_machine() -> None:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    print(f"command: python {' '.join(sys.argv)}")
    print(f"machine: {len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.processor()}")
    print(f"python {platform.python_version()}, tensorflow {tf.__version__}, keras {keras.__version__}")
    print(f"GPUs: {len(tf.config.list_physical_devices('GPU'))}; load average before: {load_average()}")


def load_average() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
