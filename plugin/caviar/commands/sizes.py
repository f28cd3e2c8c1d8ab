"""What this machine can hold: a study that it cannot is refused before it begins."""

import math
import os
from collections.abc import Callable
from typing import Final

from ..config import NetworkConfig, TrainingConfig
from ..data.dataset import DatasetFacts
from ..errors import SpaceError, SpecError
from ..memory import available_memory
from ..packing.cost_model import DataShape, LaneShape
from ..packing.packing import fleet_bytes
from ..spec import StudySpec

#: About what a worker takes besides its networks: TensorFlow's own state, the data and the study.
_WORKER_BYTES: Final = 300 << 20


def check_sizes(spec: StudySpec, facts: DatasetFacts | None = None, *, memory_bytes: int | None = None) -> None:
    """Refuse more workers, or larger networks, than this machine's memory holds.

    Networks of the user's own are not looked at: what they take is not known before they are built.

    Args:
        spec: The study file.
        facts: Of its data; without them only what no data could make fit is refused.
        memory_bytes: What may be taken; by default what is free here.

    Raises:
        SpecError: Naming what would fit.
    """
    memory = available_memory() if memory_bytes is None else memory_bytes
    n_workers = spec.search.workers
    n_fit = max(os.cpu_count() or 1, memory // _WORKER_BYTES)
    if n_workers > n_fit:
        raise SpecError(
            f"search.workers is {n_workers}, but a worker takes about {_gigabytes(_WORKER_BYTES)} and "
            f"{_gigabytes(memory)} of memory are free: at most {n_fit} fit here."
        )
    if spec.objective.network is None:
        _check_networks(spec, facts, share=memory // n_workers)


def _check_networks(spec: StudySpec, facts: DatasetFacts | None, *, share: int) -> None:
    least = DataShape(n_train=1, n_validation=1, n_features=1, n_classes=2)
    data = least if facts is None else data_shape(facts)
    space = spec.space
    depth, units, batch_size = (space.largest(name) for name in ("depth", "units", "batch_size"))

    def n_bytes(depth: int, units: int) -> int:
        network = NetworkConfig(depth=depth, units=units)
        training = TrainingConfig(batch_size=batch_size, epochs=spec.objective.epochs)
        return fleet_bytes([LaneShape(network=network, training=training)], data)

    if n_bytes(depth, units) <= share:
        return
    widest = _most_that_fits(lambda width: n_bytes(depth, width) <= share, units)
    deepest = _most_that_fits(lambda layers: n_bytes(layers, units) <= share, depth)
    ways = [f"units to {widest}"] * (widest > 0) + [f"depth to {deepest}"] * (deepest > 0)
    raise SpaceError(
        f"The largest network of this space, depth {depth} with {units} units a layer in batches of {batch_size}, "
        f"takes about {_gigabytes(n_bytes(depth, units))} to train, but a worker has {_gigabytes(share)} here. "
        f"Lower {', or '.join([*ways, 'batch_size, or the number of workers'])}."
    )


def data_shape(facts: DatasetFacts) -> DataShape:
    """Return what of a data set decides a network's size and cost."""
    return DataShape(
        n_train=facts.n_train,
        n_validation=facts.n_validation,
        n_features=math.prod(facts.feature_shape),
        n_classes=facts.n_classes,
    )


def _most_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to ``most`` that fits, 0 where 1 does not; smaller numbers fit where larger do."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2g} GB" if n_bytes < 1e11 else f"{n_bytes / 1e9:,.0f} GB"
