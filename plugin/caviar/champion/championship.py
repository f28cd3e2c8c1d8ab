"""Running a race: a study of its own, whose trials are a candidate's training on a round's seed and cut of the data."""

import dataclasses
import json
import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ..attributes import BEST_EPOCH, CANDIDATE, CURVES, DATA, FINGERPRINT, PARENT, RACE, ROUND, STUDY_UID
from ..data.loading import Data
from ..engines.work import work_here
from ..errors import SpecError, StorageError
from ..interventions import was_changed
from ..search.samplers import make_sampler_factory
from ..search.seeds import trial_seed
from ..search.sequences import origin_of
from ..spec import SearchSpec, StudySpec
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.studies import create_study
from ..worker.opening import open_mirror
from ..worker.trial_run import worst_case
from .candidates import pick_candidates, race_name
from .race import Interval, Standings, mean_interval, standings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of those that race.

    Attributes:
        number: Its trial in the search.
        value: What the search found it to reach: the best of many, and so too good.
        params: As Optuna stores them.
    """

    number: int
    value: float
    params: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaceResult:
    """How a race ended.

    Attributes:
        candidates: Those that raced, the search's best first.
        winner: Which of them won, by place.
        values: Of each candidate: what it reached in the rounds that it ran.
        epochs: How many epochs the winner trains for: the median of its rounds' best.
        confirmed: What the winner reaches after so many epochs on seeds and cuts that chose nothing, with its interval.
        n_trainings: Trainings that all of it took.
    """

    candidates: tuple[Candidate, ...]
    winner: int
    values: tuple[tuple[float, ...], ...]
    epochs: int
    confirmed: Interval
    n_trainings: int

    @property
    def optimism(self) -> float:
        """By how much the search's value of the winner is better than what it reaches; below 0 where that is worse."""
        return self.candidates[self.winner].value - self.confirmed.mean


class Race:
    """A race of a search's best trials.

    The trials that it needs are enqueued round by round; whoever runs it next goes on where it was left.

    Args:
        storage: Where the search is, and the race will be.
        home: Where its checkpoints and its MLflow are.
        parent: The search.
        spec: Its study file.
        data: Its data.
        top: How many candidates race.
        seeds: Trainings of each that the budget is for, and those that confirm the winner.

    Raises:
        StorageError: If the search has no complete trial.
        SpecError: If a race with other numbers was begun.
    """

    def __init__(
        self,
        storage: LeasedStorage,
        home: Home,
        *,
        parent: optuna.Study,
        spec: StudySpec,
        data: Data,
        top: int,
        seeds: int,
    ) -> None:
        self._storage, self._home, self._data, self._seeds = storage, home, data, seeds
        self._maximize = spec.objective.direction == "maximize"
        search = SearchSpec(
            trials=1_000_000,  # as many as are enqueued
            sampler="random",
            pruner="none",
            retries=spec.search.retries,
            lease_s=spec.search.lease_s,
            trainer=spec.search.trainer,
        )
        self.spec = dataclasses.replace(spec, name=race_name(spec.name), search=search)
        self.study = self._open(parent, spec, top=top)
        self.candidates = tuple(Candidate(**row) for row in json.loads(self.study.user_attrs[RACE])["candidates"])
        self._budget = seeds * len(self.candidates)

    def _open(self, parent: optuna.Study, spec: StudySpec, *, top: int) -> optuna.Study:
        ended = parent.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        complete = [trial for trial in ended if not was_changed(trial.user_attrs)]  # no race could repeat the others
        if not complete:
            why = "all complete trials were changed by hand" if ended else "no trial is complete yet"
            raise StorageError(f"The study {parent.study_name!r} has no trial to race: {why}.")
        chosen = pick_candidates(complete, spec.space.distributions(), n=top, maximize=self._maximize)
        rows = [{"number": trial.number, "value": trial.value, "params": trial.params} for trial in chosen]
        plan = {"top": top, "seeds": self._seeds, "parent": parent.user_attrs.get(STUDY_UID, ""), "candidates": rows}
        attributes: dict[str, Any] = {
            STUDY_UID: uuid.uuid4().hex,
            FINGERPRINT: self._data.fingerprint,
            DATA: parent.user_attrs.get(DATA, ""),
            PARENT: parent.study_name,
            RACE: json.dumps(plan),
        }
        study = create_study(self._storage, self.spec, attributes=attributes)
        begun = json.loads(study.user_attrs[RACE])
        changed = [key for key in plan if begun.get(key) != plan[key]]
        if changed:
            what = "the search has other best trials by now" if changed == ["candidates"] else f"{changed[0]} differs"
            raise SpecError(
                f"The race {study.study_name!r} was begun otherwise: {what}. Begin it anew with --fresh, or delete it: "
                f"`caviar delete {study.study_name}`."
            )
        return study

    def run(
        self,
        *,
        stop: threading.Event,
        on_trial: Callable[[FrozenTrial, int], None] = lambda _trial, _total: None,
    ) -> RaceResult | None:
        """Run what is left of the race.

        Args:
            stop: Set from outside to leave after the epoch at hand.
            on_trial: Called with each trial that ended, and how many trainings there are at most.

        Returns:
            How it ended; None where it was stopped before.
        """
        while True:
            rounds = self._rounds()
            standing = self._standings(rounds)
            wanted = standing.alive
            if standing.is_over:
                wanted = standing.alive[:1]
                if len(rounds) - standing.n_rounds >= max(self._seeds, 2):
                    return self._result(rounds, standing)
            if stop.is_set():
                return None
            self._train(len(rounds), wanted, stop=stop, on_trial=on_trial)

    def _standings(self, rounds: Sequence[Mapping[int, FrozenTrial]]) -> Standings:
        """Replay the race; the rounds after it confirm the winner."""
        done: list[Mapping[int, float]] = []
        while True:
            standing = standings(done, n_candidates=len(self.candidates), budget=self._budget, maximize=self._maximize)
            if standing.is_over or len(done) == len(rounds):
                return standing
            done.append({candidate: self._value(trial) for candidate, trial in rounds[len(done)].items()})

    def _rounds(self) -> list[dict[int, FrozenTrial]]:
        """Return the trials of the rounds that are complete, by candidate; of a retried one, the last."""
        trials = self.study.get_trials(deepcopy=False)
        found: dict[int, dict[int, FrozenTrial]] = {}
        for trial in trials:
            begun = trials[origin_of(trial)].user_attrs
            if CANDIDATE in begun:
                found.setdefault(begun[ROUND], {})[begun[CANDIDATE]] = trial
        rounds: list[dict[int, FrozenTrial]] = []
        for number in range(len(found)):
            complete = number in found and all(trial.state.is_finished() for trial in found[number].values())
            wanted = self._wanted(rounds)
            if not complete or not set(wanted) <= found[number].keys():
                break
            rounds.append({candidate: found[number][candidate] for candidate in wanted})
        return rounds

    def _wanted(self, rounds: Sequence[Mapping[int, FrozenTrial]]) -> tuple[int, ...]:
        standing = self._standings(rounds)
        return standing.alive[:1] if standing.is_over else standing.alive

    def _train(
        self,
        number: int,
        candidates: Sequence[int],
        *,
        stop: threading.Event,
        on_trial: Callable[[FrozenTrial, int], None],
    ) -> None:
        """Train some candidates on a round's cut of the data."""
        trials = self.study.get_trials(deepcopy=False)
        begun = {
            trial.user_attrs[CANDIDATE] for trial in trials if trial.user_attrs.get(ROUND) == number
        }  # by a run that was killed
        for candidate in candidates:
            if candidate not in begun:
                self.study.enqueue_trial(
                    dict(self.candidates[candidate].params), user_attrs={CANDIDATE: candidate, ROUND: number}
                )
        seed = trial_seed(self.spec.seed, number, "race")
        dataset = self._data.cut(validation_fraction=self.spec.data.validation_fraction, seed=seed)
        n_enqueued = len(self.study.get_trials(deepcopy=False))
        spec = dataclasses.replace(self.spec, search=dataclasses.replace(self.spec.search, trials=n_enqueued))
        most = self._budget + self._seeds
        work_here(
            self.study,
            self._storage,
            spec,
            dataset,
            home=self._home,
            make_sampler=make_sampler_factory(spec.search, spec.space, seed=spec.seed),
            mirror=open_mirror(self._home, self.study, spec),
            stop=stop,
            on_trial=lambda trial: on_trial(trial, most),
        )

    def _value(self, trial: FrozenTrial) -> float:
        """Return what a trial reached; the worst case where it failed or diverged."""
        if trial.value is not None:
            return trial.value
        return worst_case(self.spec.objective.metric, n_classes=len(self._data.class_names))

    def _result(self, rounds: Sequence[Mapping[int, FrozenTrial]], standing: Standings) -> RaceResult:
        winner, metric = standing.alive[0], self.spec.objective.metric
        raced, fresh = rounds[: standing.n_rounds], rounds[standing.n_rounds :]
        own = [trials[winner] for trials in raced] or [trials[winner] for trials in fresh]
        best = [trial.user_attrs[BEST_EPOCH] + 1 for trial in own if BEST_EPOCH in trial.user_attrs]
        epochs = round(float(np.median(best))) if best else self.spec.objective.epochs
        confirmed = []
        for trials in fresh:
            curve = trials[winner].user_attrs.get(CURVES, {}).get(metric, ())
            confirmed.append(curve[min(epochs, len(curve)) - 1] if curve else self._value(trials[winner]))
        return RaceResult(
            candidates=self.candidates,
            winner=winner,
            values=tuple(
                tuple(self._value(trials[candidate]) for trials in raced if candidate in trials)
                for candidate in range(len(self.candidates))
            ),
            epochs=epochs,
            confirmed=mean_interval(confirmed, low=0.0, high=math.inf if metric == "val_loss" else 1.0),
            n_trainings=sum(len(trials) for trials in rounds),
        )
