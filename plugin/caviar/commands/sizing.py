"""What this machine can hold, and how it would divide a study: memory, threads, fleets."""

import bisect
import math
import os
from typing import Any, Final

import optuna

from ..config import NetworkConfig, TrainingConfig
from ..data.dataset import DatasetFacts
from ..engines.processes import ProcessEngine
from ..errors import SpaceError, SpecError
from ..memory import available_memory
from ..packing.calibration import known_prices, prices_path
from ..packing.cost_model import DataShape, LaneShape
from ..packing.packing import Packer, describe_plan, fleet_bytes
from ..packing.planning import MOST_IN_HAND
from ..parameters import ChoiceParameter
from ..search.samplers import make_sampler_factory
from ..search.warm_start import WarmStart
from ..space import SearchSpace, make_configs
from ..spec import StudySpec
from ..worker.in_flight import trials_to_take

#: About what a worker takes besides its networks: TensorFlow's own state, the data and the study.
_WORKER_BYTES: Final = 300 << 20
#: Units of a layer from which on its products gain from a second thread.
_WIDE_UNITS: Final = 192


def check_sizes(spec: StudySpec, facts: DatasetFacts | None = None, *, memory_bytes: int | None = None) -> None:
    """Refuse more workers, or larger networks, than this machine's memory holds.

    Networks of the user's own are not checked: nobody knows what they take before they are built. Without facts about
    the data, only what would not fit with any data is refused. ``memory_bytes`` is, by default, what is free here.
    Nothing is refused for a cluster's sake, whose memory is not known here.

    Raises:
        SpecError: Naming what would fit.
    """
    if spec.search.engine == "ray":
        return
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


def threads_for(spec: StudySpec, *, n_workers: int) -> int:
    """Return how many threads each of so many workers gets for one operation, at least 1: on Ray, those it reserves.

    Solo trainings share the cores. Fleets take one thread each unless the networks are wide: handing a small product to
    a second thread takes longer than computing it. On 2 cores, one worker with two threads took 1.5 times as long as
    with one for the default space (16 to 256 units, digits and Fashion-MNIST), and 0.76 times for layers of 256 units.
    """
    on_ray = spec.search.engine == "ray"
    share = max(1, int(spec.search.cpus_per_worker) if on_ray else len(os.sched_getaffinity(0)) // n_workers)
    return 1 if spec.trains_in_fleets and _typical_units(spec.space) < _WIDE_UNITS else share


def fleet_plan_lines(spec: StudySpec, warm: WarmStart | None) -> list[str]:
    """Return the fleets of a worker's first trials, one a line; another process loads the data for its shape.

    The trials are drawn as the study will draw them while it has no results. Prices are this machine's if they have
    been measured, else typical ones. Raises a CaviarError if the data cannot be loaded.
    """
    search = spec.search
    threads = threads_for(spec, n_workers=search.workers)
    with ProcessEngine() as engine:
        data = _data_shape(engine.get_ready(spec, threads=threads, n_workers=1))
    prices, memory_bytes = known_prices(prices_path(threads=threads)), available_memory() // (2 * search.workers)
    packer = Packer(cost=prices, data=data, memory_bytes=memory_bytes, deepest=spec.space.largest("depth"))
    wanted = trials_to_take(search, in_hand=0, set_aside=0, left=search.trials, running=0)
    n = min(wanted, search.trials, MOST_IN_HAND)
    lanes = _first_lanes(spec, warm, n)
    return [f"fleets of a worker's first {n} trials:", *describe_plan(packer.plan(lanes), lanes, packer)]


def _first_lanes(spec: StudySpec, warm: WarmStart | None, n: int) -> list[LaneShape]:
    make_sampler = make_sampler_factory(spec.search, spec.space, seed=spec.seed, warm=warm)
    study = optuna.create_study(direction=spec.objective.direction.optuna)
    lanes = []
    for number in range(n):
        study.sampler = make_sampler(number, study)
        network, training = make_configs(spec.space.suggest(study.ask()), epochs=spec.objective.epochs)
        lanes.append(LaneShape(network=network, training=training))
    return lanes


def _check_networks(spec: StudySpec, facts: DatasetFacts | None, *, share: int) -> None:
    least = DataShape(n_train=1, n_validation=1, n_features=1, n_classes=2)
    data = least if facts is None else _data_shape(facts)
    space = spec.space
    depth, units, batch_size = (space.largest(name) for name in ("depth", "units", "batch_size"))

    def n_bytes(depth: int, units: int) -> int:
        network = NetworkConfig(depth=depth, units=units)
        training = TrainingConfig(batch_size=batch_size, epochs=spec.objective.epochs)
        return fleet_bytes([LaneShape(network=network, training=training)], data)

    if n_bytes(depth, units) <= share:
        return
    widest = bisect.bisect_right(range(1, units), share, key=lambda width: n_bytes(depth, width))
    deepest = bisect.bisect_right(range(1, depth), share, key=lambda layers: n_bytes(layers, units))
    ways = [f"units to {widest}"] * (widest > 0) + [f"depth to {deepest}"] * (deepest > 0)
    raise SpaceError(
        f"The largest network of this space (depth {depth}, {units} units a layer, batches of {batch_size}) takes "
        f"about {_gigabytes(n_bytes(depth, units))} to train, but a worker has {_gigabytes(share)} here. "
        f"Lower {', or '.join([*ways, 'batch_size, or the number of workers'])}."
    )


def _data_shape(facts: DatasetFacts) -> DataShape:
    n_train, n_validation, n_features = facts.n_train, facts.n_validation, math.prod(facts.feature_shape)
    return DataShape(n_train=n_train, n_validation=n_validation, n_features=n_features, n_classes=facts.n_classes)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2g} GB" if n_bytes < 1e11 else f"{n_bytes / 1e9:,.0f} GB"


def _typical_units(space: SearchSpace) -> float:
    """Return the geometric middle of the widths that a space draws, or has fixed."""
    fixed = space.fixed.get("units", 1)
    widths: tuple[Any, ...] = fixed if isinstance(fixed, tuple) else (fixed,)
    for parameter in space.parameters:
        if parameter.name == "units":
            widths = parameter.choices if isinstance(parameter, ChoiceParameter) else (parameter.low, parameter.high)
    return math.sqrt(min(widths) * max(widths))
