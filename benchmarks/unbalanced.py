"""What balanced class weights do for a rare class: balanced accuracy on two real tables, with and without them.

    python benchmarks/unbalanced.py [--seeds 10]

The rare class is thinned out in the training split alone, to 8 Chinstrap penguins (palmerpenguins) and 20 malignant
tumours (scikit-learn's breast cancer). The same network trains with and without weights, from the same seed.
"""

import argparse
import importlib.resources
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from caviar.config import NetworkConfig, TrainingConfig
from caviar.data.dataset import Dataset, Split
from caviar.networks import fit_normalization
from caviar.training import FleetData, FleetPrograms, FleetTrainer, Lane, TensorSplits

MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def tables() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.int_], int, int]]:
    """Yield name, features, labels, the rare class, and how many of it stay in training."""
    penguins = pd.read_csv(str(importlib.resources.files("palmerpenguins") / "data" / "penguins.csv")).dropna()
    names, labels = np.unique(penguins["species"], return_inverse=True)
    yield "penguins", penguins[MEASURES].to_numpy(np.float32), labels, names.tolist().index("Chinstrap"), 8
    cancer = load_breast_cancer()
    yield "breast cancer", cancer.data.astype(np.float32), cancer.target, 0, 20


def thinned(x: NDArray[np.float32], y: NDArray[np.int_], *, rare: int, keep: int, seed: int) -> Dataset:
    """Return a data set of which training alone has few examples of the rare class."""
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.4, stratify=y, random_state=seed)
    dropped = np.random.default_rng(seed).permutation(np.flatnonzero(y_train == rare))[keep:]
    stays = np.delete(np.arange(len(y_train)), dropped)
    return Dataset(
        name="thinned",
        class_names=tuple(map(str, range(int(y.max()) + 1))),
        train=Split(features=x_train[stays], labels=y_train[stays].astype(np.int32)),
        validation=Split(features=x_val, labels=y_val.astype(np.int32)),
        fingerprint="",
    )


def balanced_accuracy(data: Dataset, *, balanced: bool, epochs: int, seed: int) -> float:
    """Train a small network, and return what it reaches on the validation split."""
    splits = TensorSplits.from_dataset(data, class_weight="balanced" if balanced else None, by_class=True)
    programs = FleetPrograms(FleetData.from_splits(splits, normalization=fit_normalization(data.train.features)))
    training = TrainingConfig(epochs=epochs, batch_size=16, learning_rate=0.01)
    with FleetTrainer(
        [Lane(network=NetworkConfig(depth=1, units=16), training=training, seed=seed)], programs
    ) as fleet:
        return [fleet.run_epoch()[0] for _ in range(epochs)][-1]["val_balanced_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    print("| table | epochs | no weights | balanced | difference ± standard error |")
    print("|---|---|---|---|---|")
    for name, x, y, rare, keep in tables():
        for epochs in (10, 30):
            reached = {
                balanced: np.array(
                    [
                        balanced_accuracy(
                            thinned(x, y, rare=rare, keep=keep, seed=seed), balanced=balanced, epochs=epochs, seed=seed
                        )
                        for seed in seeds
                    ]
                )
                for balanced in (False, True)
            }
            gain = reached[True] - reached[False]
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            means = f"{reached[False].mean():.3f} | {reached[True].mean():.3f}"
            print(f"| {name} | {epochs} | {means} | {gain.mean():+.3f} ± {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
