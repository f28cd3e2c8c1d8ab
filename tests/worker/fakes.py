"""What takes the place of TensorFlow in tests of workers and crews, and the worker that they are made into."""

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from caviar import KerasObjective
from caviar.errors import SpecError
from caviar.packing.planning import Candidate, Plan, SoloPlan, T
from caviar.search.samplers import make_sampler_factory
from caviar.spec import StudySpec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.overview import count_trials
from caviar.storage.studies import create_study, open_study
from caviar.worker.crew import Crew
from caviar.worker.objective import LaneSpec
from caviar.worker.trial_run import TrialRun
from caviar.worker.worker import Worker
from caviar.worker.worker_setup import WorkerSetup

#: Called before an epoch: its number among all that this process trains, and its lanes.
Act = Callable[[int, Sequence[LaneSpec]], None]


def accuracy(seed: int, epoch: int) -> float:
    """Return what a fake lane reaches in an epoch: it rises, from a height that depends on its seed."""
    return (seed % 97) / 200 + epoch / 100


@dataclasses.dataclass
class FakeLane:
    seed: int
    learning_rate: float
    epoch: int = 0


class FakeTrainer:
    """Keeps the trainers' contract without training."""

    output = "logits"

    def __init__(self, trainers: "FakeTrainers", lanes: Sequence[LaneSpec]) -> None:
        self._trainers = trainers
        self._specs = list(lanes)
        self._lanes = [FakeLane(lane.seed, lane.shape.training.learning_rate) for lane in lanes]

    def run_epoch(self) -> list[dict[str, float]]:
        self._trainers.train(self._specs)
        return [self._metrics(lane) for lane in self._lanes]

    def _metrics(self, lane: FakeLane) -> dict[str, float]:
        value = accuracy(lane.seed, lane.epoch)
        lane.epoch += 1
        loss = float("nan") if lane.learning_rate > 1 else 1 - value
        return {"accuracy": value, "loss": loss, "val_accuracy": value, "val_loss": loss}

    def drop_lanes(self, lanes: Collection[int]) -> None:
        self._lanes = [lane for place, lane in enumerate(self._lanes) if place not in lanes]
        self._specs = [lane for place, lane in enumerate(self._specs) if place not in lanes]

    def lane_state(self, lane: int) -> dict[str, Any]:
        state = {name: np.array(getattr(self._lanes[lane], name)) for name in ("seed", "epoch")}
        return {**state, "hyperparameter.learning_rate": np.array(self._lanes[lane].learning_rate)}

    def set_hyperparameter(self, lane: int, name: str, value: float) -> None:
        if name == "dropout":
            raise SpecError("dropout cannot be set: the model has no Dropout layer.")
        setattr(self._lanes[lane], name, value)

    def load_lane_state(self, lane: int, state: Mapping[str, Any]) -> None:
        if int(state["seed"]) != self._lanes[lane].seed:
            raise ValueError("It is another network's.")
        self._lanes[lane].epoch = int(state["epoch"])
        self._lanes[lane].learning_rate = float(
            state.get("hyperparameter.learning_rate", self._lanes[lane].learning_rate)
        )

    def lane_model(self, lane: int) -> int:
        """Return the number of epochs that the lane has trained."""
        return self._lanes[lane].epoch

    def close(self) -> None:
        self._lanes = []


class FakeTrainers:
    """Makes fake trainers, and keeps which lanes trained in every epoch.

    Args:
        act: Called before every epoch; may raise.
        refuse: Called with the lanes of every trainer that is made; may raise.
    """

    def __init__(self, act: Act = lambda _epoch, _lanes: None, refuse: Act = lambda _made, _lanes: None) -> None:
        self.n_made = 0
        self.epochs: list[list[LaneSpec]] = []
        self._act = act
        self._refuse = refuse

    def n_programs(self) -> tuple[int, int]:
        return self.n_made, 0

    def make(self, lanes: Sequence[LaneSpec]) -> Any:
        self.n_made += 1
        self._refuse(self.n_made, lanes)
        return FakeTrainer(self, lanes)

    def train(self, lanes: Sequence[LaneSpec]) -> None:
        self.epochs.append(list(lanes))
        self._act(len(self.epochs) - 1, lanes)

    @property
    def sizes(self) -> list[int]:
        """How many lanes trained in every epoch."""
        return [len(lanes) for lanes in self.epochs]


class PairPlan(Plan):
    """Puts those that have trained least together in fleets of so many, in their order."""

    def __init__(self, *, size: int = 2, regroups: bool = True, refills: bool = False, most_in_hand: int = 256) -> None:
        self._size = size
        self._regroups = regroups
        self._refills = refills
        self.most_in_hand = most_in_hand

    def fleets(self, waiting: Sequence[T]) -> tuple[list[list[T]], bool]:
        least = min(trial.epochs for trial in waiting)
        chosen = [trial for trial in waiting if trial.epochs <= 2 * least]
        fleets = [chosen[start : start + self._size] for start in range(0, len(chosen), self._size)]
        return (fleets if self._regroups else fleets[:1]), self._regroups

    def refill(self, running: Sequence[T], waiting: Sequence[T], *, n_lanes: int) -> list[T]:
        return list(waiting[: n_lanes - len(running)]) if self._refills else []

    def training_s(self, fleet: Sequence[Candidate]) -> float:
        return 100.0

    def flop(self, fleet: Sequence[Candidate]) -> tuple[float, float]:
        return 0.0, 0.0


class NoCheckpoints:
    """Takes the place of a checkpoint store: keeps nothing."""

    def save(self, number: int, checkpoint: Any, *, keep: int = 2) -> None:
        pass

    def load(self, number: int) -> None:
        return None

    def forget(self, number: int) -> None:
        pass


class Mirror:
    """Takes the place of MLflow's: keeps what it is shown."""

    def __init__(self) -> None:
        self.states: dict[int, list[str]] = {}

    def record_many(self, records: Any) -> None:
        for record in records:
            self.states.setdefault(record.trial.number, []).append(record.trial.state.name)


class Networks:
    """Takes the place of the folder of the best networks: keeps the fake models by trial."""

    def __init__(self) -> None:
        self.saved: dict[int, int] = {}

    def save(self, run: TrialRun, model: Any) -> None:
        self.saved[run.trial.number] = model


@dataclasses.dataclass
class Made:
    """What a worker is made of here, to be changed before it works."""

    storage: LeasedStorage
    spec: StudySpec
    objective: KerasObjective
    plan: Plan = dataclasses.field(default_factory=SoloPlan)
    pruner: optuna.pruners.BasePruner = dataclasses.field(default_factory=optuna.pruners.NopPruner)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended: list[FrozenTrial] = dataclasses.field(default_factory=list)
    study: optuna.Study = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.spec.name in optuna.get_all_study_names(self.storage):
            self.study = open_study(self.storage, self.spec.name)
        else:
            self.study = create_study(self.storage, self.spec, attributes={})

    def search(self, **changes: Any) -> None:
        """Change the search."""
        self.spec = dataclasses.replace(self.spec, search=dataclasses.replace(self.spec.search, **changes))

    def reopen(self) -> None:
        """Take the place of another worker."""
        self.storage = open_storage(str(self.storage.url), owner=new_owner())
        self.study = open_study(self.storage, self.spec.name)

    def work(self, act: Act = lambda _epoch, _lanes: None, **trainers: Act) -> FakeTrainers:
        """Work with fake trainers, and return them."""
        made = FakeTrainers(act, **trainers)
        self.work_with(Crew(self.plan, made))
        return made

    def work_with(self, crew: Crew) -> None:
        given: dict[str, Any] = {
            "study": self.study,
            "storage": self.storage,
            "spec": self.spec,
            "objective": self.objective,
            "make_sampler": make_sampler_factory(self.spec.search, self.spec.space, seed=0),
            "pruner": self.pruner,
            "mirror": Mirror(),
            "checkpoints": NoCheckpoints(),
            "networks": Networks(),
            "stop": threading.Event(),
            "share_done": threading.Event(),
            "deadline_s": None,
            "on_trial": self.ended.append,
            "poll_s": 0.01,
        }
        Worker(WorkerSetup(**{**given, **self.options}), crew).run()

    @property
    def states(self) -> dict[str, int]:
        """How many trials are in which state."""
        counts = count_trials(self.storage, self.study._study_id)
        return {state.name: count for state, count in counts.items() if count}

    @property
    def stored(self) -> list[FrozenTrial]:
        """What stock Optuna reads from the database."""
        return optuna.load_study(study_name=self.spec.name, storage=str(self.storage.url)).trials
