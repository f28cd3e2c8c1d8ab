"""Measures the prices of the cost model on this machine, once; it takes a second or two."""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import filelock
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ..config import NetworkConfig, TrainingConfig
from ..user_cache import remove_unused, sources_digest, user_cache
from .cost_model import TYPICAL, CostModel, DataShape, LaneRow, LaneShape

_logger = logging.getLogger(__name__)

_DATA: Final = DataShape(n_train=256, n_validation=128, n_features=64, n_classes=10)
# Lanes, depth, width, batch size: few and many, narrow and wide, so that each term matters in some of them.
_FLEETS: Final = (
    (1, 1, 16, 32),
    (1, 3, 16, 16),
    (32, 3, 16, 16),
    (16, 2, 64, 64),
    (2, 3, 256, 128),
    (8, 2, 256, 16),
    (24, 3, 128, 128),
)
_REPEATS: Final = 3
_DEEPEST: Final = max(depth for _, depth, _, _ in _FLEETS)
_CACHE: Final = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
_PROCESSORS: Final = Path("/proc/cpuinfo")
#: These make TensorFlow compute in another way on the same machine.
_VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ONEDNN_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS")


def calibrate() -> CostModel:
    """Train a few fleets on random data and return the prices that explain how long they took.

    The fit is a non-negative least squares on relative errors, so that short epochs count as much as long ones.
    """
    from scipy.optimize import nnls

    cache_bytes = _read_cache_bytes()
    fleets = [_lanes(*sizes) for sizes in _FLEETS]
    seconds, trace_s = _measure(fleets)
    amounts = np.stack([LaneRow.of(fleet, _DATA).work(cache_bytes=cache_bytes)[-1] for fleet in fleets])
    typical = np.array(TYPICAL.prices)
    # There are fewer measurements than prices: what they leave open stays near the typical prices, scaled by the speed.
    speed = float(np.median(seconds / (amounts @ typical)))
    weighed = np.concatenate([amounts * typical * speed / seconds[:, None], 0.3 * np.eye(len(typical))])
    factors, _ = nnls(weighed, np.concatenate([np.ones(len(seconds)), 0.3 * np.ones(len(typical))]))
    prices = tuple(float(price) for price in factors * typical * speed)
    return CostModel(prices=prices, trace_s=trace_s, cache_bytes=cache_bytes)


def prices_path(*, threads: int) -> Path:
    """Return the file in the user's cache with this machine's prices for workers of so many threads."""
    sources = sources_digest("packing", "training", "program_key.py")
    facts = [importlib.metadata.version("tensorflow"), sources, *_machine(), *map(os.environ.get, _VARIABLES)]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return user_cache() / f"prices-{digest[:16]}-threads-{threads}.json"


def load_or_calibrate(path: Path) -> CostModel:
    """Return the prices in a file; measure them now if it has none.

    One process measures at a time. The others get the typical prices meanwhile, rather than wait.
    """
    model = CostModel.load(path)
    if model is not None:
        return model
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", blocking=False):
            model = CostModel.load(path)
            if model is None:
                model = calibrate()
                remove_unused(path.parent, "prices-*.json")
                model.save(path)
    except filelock.Timeout:
        return TYPICAL
    except OSError as error:
        _logger.debug("The prices could not be kept in %s, and will be measured again: %s", path, error)
    return model or calibrate()


def known_prices(path: Path) -> CostModel:
    """Return the prices in a file, or typical ones: to show a plan without measuring."""
    return CostModel.load(path) or TYPICAL


def _lanes(n_lanes: int, depth: int, units: int, batch_size: int) -> list[LaneShape]:
    network = NetworkConfig(depth=depth, units=units, batch_norm="before_activation")
    return [LaneShape(network=network, training=TrainingConfig(epochs=1, batch_size=batch_size))] * n_lanes


def _measure(fleets: Sequence[Sequence[LaneShape]]) -> tuple[npt.NDArray[np.float64], float]:
    """Return the seconds of each fleet's fastest epoch, and of tracing one program."""
    import tensorflow as tf

    from ..training import FleetData, FleetPrograms, FleetTrainer, Lane, TensorSplits

    rng = np.random.default_rng(0)
    n_examples = _DATA.n_train + _DATA.n_validation
    features = rng.normal(size=(n_examples, _DATA.n_features)).astype(np.float32)
    labels = rng.integers(0, _DATA.n_classes, n_examples).astype(np.int32)
    splits = TensorSplits(
        train_features=tf.constant(features[: _DATA.n_train]),
        train_labels=tf.constant(labels[: _DATA.n_train]),
        validation_features=tf.constant(features[_DATA.n_train :]),
        validation_labels=tf.constant(labels[_DATA.n_train :]),
        n_classes=_DATA.n_classes,
    )
    programs = FleetPrograms(FleetData.from_splits(splits, normalization=None), deepest=_DEEPEST)
    traces, epochs = [], []
    for fleet in fleets:
        lanes = [Lane(network=lane.network, training=lane.training, seed=0) for lane in fleet]
        n_traces = programs.n_traces
        with FleetTrainer(lanes, programs) as trainer:
            timed = []
            for _ in range(_REPEATS + 1):
                started = time.perf_counter()
                trainer.run_epoch()
                timed.append(time.perf_counter() - started)
        if programs.n_traces > n_traces:
            traces.append(timed[0] - min(timed[1:]))
        epochs.append(min(timed[1:]))
    return np.array(epochs), float(np.median(traces))


def _machine() -> list[str]:
    """Return what tells processors apart, since several machines may share a home directory."""
    try:
        lines = set(_PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        lines = {platform.processor()}
    names = ("model name", "flags", "CPU part", "Features")
    kinds = sorted(line for line in lines if line.startswith(names))
    return [platform.machine(), str(os.cpu_count()), str(_read_cache_bytes()), *kinds]


def _read_cache_bytes() -> int:
    try:
        return int(_CACHE.read_text(encoding="ascii").strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return TYPICAL.cache_bytes
