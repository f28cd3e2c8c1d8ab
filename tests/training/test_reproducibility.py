import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from caviar.config import NetworkConfig, TrainingConfig
from caviar.networks import build_network
from caviar.training import SoloTrainer, TensorSplits


def curve() -> list[dict[str, float]]:
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
        return [trainer.run_epoch()[0] for _ in range(3)]


@pytest.mark.slow
def test_same_seeds_give_the_same_curve_bit_for_bit_in_another_process() -> None:
    root = Path(__file__).parents[2]
    code = """if True:
        import json
        from caviar.engines.quiet import import_tensorflow_quietly
        import_tensorflow_quietly()  # in half the time
        from tests.training.test_reproducibility import curve
        print(json.dumps(curve()))
    """
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        timeout=240,
        check=True,
    )
    assert json.loads(result.stdout.splitlines()[-1]) == curve()
