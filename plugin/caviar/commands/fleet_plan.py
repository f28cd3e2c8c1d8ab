"""Which trials would train together: the plan that ``caviar run --dry-run`` prints."""

import optuna

from ..engines.ready_workers import ready_workers
from ..engines.warming import warm_up
from ..memory import available_memory
from ..packing.calibration import known_prices, prices_path
from ..packing.cost_model import LaneShape
from ..packing.packing import Packer, describe_plan
from ..packing.planning import MOST_IN_HAND
from ..search.samplers import make_sampler_factory
from ..search.warm_start import WarmStart
from ..space import make_configs
from ..spec import StudySpec
from ..worker.in_flight import trials_to_take
from .sizes import data_shape
from .work import threads_for


def fleet_plan_lines(spec: StudySpec, warm: WarmStart | None) -> list[str]:
    """Return the fleets of a worker's first trials, one a line; the data is loaded, in another process, for its shape.

    The trials are drawn as the study will draw them while it has no results. Prices are this machine's where they have
    been measured, else typical ones.

    Args:
        spec: The study file.
        warm: What the study takes over from another one, or None.

    Raises:
        DataError: If the data cannot be loaded.
    """
    warm_up()
    threads = threads_for(spec, n_workers=spec.search.workers)
    with ready_workers(spec, threads=threads, n_workers=1) as workers:
        facts = workers.facts()
    prices = known_prices(prices_path(threads=threads))
    memory_bytes = available_memory() // (2 * spec.search.workers)
    packer = Packer(cost=prices, data=data_shape(facts), memory_bytes=memory_bytes, deepest=spec.space.deepest)
    search = spec.search
    wanted = trials_to_take(search, in_hand=0, set_aside=0, left=search.trials, running=0)
    n = min(wanted, search.trials, MOST_IN_HAND)
    lanes = _first_lanes(spec, warm, n)
    plan = packer.plan(lanes)
    return [f"fleets of a worker's first {n} trials:", *describe_plan(plan, lanes, packer)]


def _first_lanes(spec: StudySpec, warm: WarmStart | None, n: int) -> list[LaneShape]:
    make_sampler = make_sampler_factory(spec.search, spec.space, seed=spec.seed, warm=warm)
    study = optuna.create_study(direction=spec.objective.direction.optuna)
    lanes = []
    for number in range(n):
        study.sampler = make_sampler(number, study)
        network, training = make_configs(spec.space.suggest(study.ask()), epochs=spec.objective.epochs)
        lanes.append(LaneShape(network=network, training=training))
    return lanes
