import json
import subprocess
import sys

import pytest

PROGRAM = """
import json
import numpy as np
import tensorflow as tf
from caviar.config import NetworkConfig, TrainingConfig
from caviar.networks import build_network
from caviar.training import SoloTrainer, TensorSplits

rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 700).astype(np.int32)
features = rng.integers(0, 17, (700, 8, 8, 1)).astype(np.uint8)
data = TensorSplits(
    train_features=tf.constant(features[:500]),
    train_labels=tf.constant(labels[:500]),
    validation_features=tf.constant(features[500:]),
    validation_labels=tf.constant(labels[500:]),
    n_classes=10,
)
config = NetworkConfig(depth=3, units=96, batch_norm="before_activation", dropout=0.2, l2=1e-4)
model = build_network(config, feature_shape=(8, 8, 1), n_classes=10, normalization=None, seed=3)
with SoloTrainer(model, data, TrainingConfig(batch_size=32, optimizer="adam"), seed=3) as trainer:
    print(json.dumps([trainer.run_epoch()[0] for _ in range(4)]))
"""


@pytest.mark.slow
def test_same_seeds_give_the_same_curve_bit_for_bit_in_two_processes() -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    first, second = (json.loads(output) for output in outputs)
    assert first == second
    assert len(first) == 4
