"""What Optuna's bookkeeping costs a trial: the buffered storage of a fleet against stock Optuna, without any training.

Run from the project's root: ``python -m benchmarks.bookkeeping`` (some minutes on 2 cores). A fleet claims 32 trials,
draws the default space's six parameters for each, reports 20 epochs to successive halving, tells every end, and
flushes every 5 epochs. Stock Optuna runs one trial after the other, as ``study.optimize`` does. Both write SQLite files
that hold so many finished trials already.
"""

import argparse
import cProfile
import dataclasses
import pstats
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState, create_trial

from caviar.search.samplers import SamplerFactory, make_sampler_factory
from caviar.space import DEFAULT_SPACE_TABLE, SearchSpace, parse_space
from caviar.spec import parse_spec
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.tickets import claim_tickets

if TYPE_CHECKING:
    from caviar.storage.leased_storage import LeasedStorage

LANES, EPOCHS, FLUSH_EVERY = 32, 20, 5


@dataclasses.dataclass(kw_only=True)
class Load:
    """What every trial does, and how long drawing its parameters has taken."""

    space: SearchSpace
    make_sampler: SamplerFactory
    pruner: optuna.pruners.BasePruner
    drawing_s: float = 0.0

    def begin(self, storage: optuna.storages.BaseStorage, trial_id: int) -> optuna.Trial:
        """Draw a trial's parameters; a study of its own, since Optuna's remembers its trials until the next tell."""
        started = time.perf_counter()
        number = storage.get_trial(trial_id).number
        study = optuna.Study("load", storage, pruner=self.pruner)
        study.sampler = self.make_sampler(number, study)
        trial = optuna.Trial(study, trial_id)
        self.space.suggest(trial)
        self.drawing_s += time.perf_counter() - started
        return trial

    def report(self, trial: optuna.Trial, epoch: int) -> bool:
        """Report an epoch and tell the end, if it is one; return whether the trial goes on."""
        value = random.Random(trial.number).random() * (1 - 0.8 ** (epoch + 1))
        trial.report(value, epoch)
        if trial.should_prune():
            end, value_told = TrialState.PRUNED, None
        elif epoch + 1 == EPOCHS:
            end, value_told = TrialState.COMPLETE, value
        else:
            return True
        trial.set_user_attr("curves", {"loss": [value] * (epoch + 1), "accuracy": [value] * (epoch + 1)})
        trial.study.tell(trial, value_told, state=end)
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of both ways, of which the fastest counts")
    parser.add_argument("--stock-trials", type=int, default=16, help="trials of stock Optuna a turn")
    parser.add_argument("--profile", action="store_true", help="profile a fleet with the random sampler")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.profile:
        profile = cProfile.Profile()
        measure_fleet(make_load("random"), finished=0, profile=profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    print(f"{'':10}{'finished':>10}{'fleet':>10}{'drawing':>10}{'refresh':>10}{'stock':>10}   ms a trial; a refresh")
    for sampler in ("random", "tpe"):
        for finished in (0, 500):
            fleet = [measure_fleet(make_load(sampler), finished=finished) for _ in range(arguments.rounds)]
            stock = [measure_stock(make_load(sampler), finished, arguments.stock_trials) for _ in fleet]
            total, drawing, refresh = min(fleet)
            print(f"{sampler:10}{finished:10}{total:10.2f}{drawing:10.2f}{refresh:10.2f}{min(stock):10.1f}")


def make_load(sampler: str) -> Load:
    search = parse_spec({"name": "load", "data": {"dataset": "digits"}, "search": {"sampler": sampler}}).search
    space = parse_space(DEFAULT_SPACE_TABLE)
    return Load(
        space=space,
        make_sampler=make_sampler_factory(search, space, seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
    )


def measure_fleet(load: Load, *, finished: int, profile: cProfile.Profile | None = None) -> tuple[float, float, float]:
    """Return milliseconds a trial, those of them that drew parameters, and milliseconds of the last refresh."""
    with tempfile.TemporaryDirectory() as directory:
        storage = open_storage(f"sqlite:///{Path(directory) / 'optuna.db'}", owner=new_owner(), create=True)
        study = optuna.create_study(storage=storage, study_name="load", direction="maximize")
        buffer = BufferedStorage(storage, study._study_id)
        run_fleet(load, storage, buffer)  # SQLAlchemy compiles its statements once
        fill(study, load.space, finished)
        buffer.refresh()
        load.drawing_s = 0.0
        if profile is not None:
            profile.enable()
        started = time.perf_counter()
        run_fleet(load, storage, buffer)
        total_s = time.perf_counter() - started
        if profile is not None:
            profile.disable()
        started = time.perf_counter()
        buffer.refresh()
        refresh_s = time.perf_counter() - started
        storage.engine.dispose()
    return total_s * 1e3 / LANES, load.drawing_s * 1e3 / LANES, refresh_s * 1e3


def run_fleet(load: Load, storage: "LeasedStorage", buffer: BufferedStorage) -> None:
    study_id = buffer.get_study_id_from_name("load")
    tickets = claim_tickets(storage, study_id, n=LANES, budget=100_000, lease_s=30, retries=2)
    assert isinstance(tickets, list)
    buffer.refresh()
    lanes = [load.begin(buffer, ticket.trial_id) for ticket in tickets]
    for epoch in range(EPOCHS):
        lanes = [lane for lane in lanes if load.report(lane, epoch)]
        if (epoch + 1) % FLUSH_EVERY == 0:
            buffer.flush()
    assert not buffer.own_trials


def measure_stock(load: Load, finished: int, n_trials: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'optuna.db'}"
        study = optuna.create_study(storage=url, study_name="load", direction="maximize")
        fill(study, load.space, finished)
        study.pruner = load.pruner
        study.get_trials(deepcopy=False)
        started = time.perf_counter()
        for _ in range(n_trials):
            study.sampler = load.make_sampler(len(study.get_trials(deepcopy=False)), study)
            trial = study.ask()
            load.space.suggest(trial)
            epoch = 0
            while load.report(trial, epoch):
                epoch += 1
        return (time.perf_counter() - started) * 1e3 / n_trials


def fill(study: optuna.Study, space: SearchSpace, n_trials: int) -> None:
    """Add finished trials, drawn at random, with 20 reports each."""
    distributions = space.distributions()
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(n_trials):
        trial = drawn.ask(distributions)
        value = random.Random(trial.number).random()
        reports = {epoch: value * (1 - 0.8 ** (epoch + 1)) for epoch in range(EPOCHS)}
        study.add_trial(
            create_trial(value=value, params=trial.params, distributions=distributions, intermediate_values=reports)
        )


if __name__ == "__main__":
    main()
