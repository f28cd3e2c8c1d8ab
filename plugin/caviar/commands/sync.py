"""Giving MLflow all that it shows of a study: its trials, the best one's network, the report and the race."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import optuna

from ..champion.candidates import race_name
from ..health.mending import sync_study
from ..record.mlflow_mirror import MlflowMirror
from ..storage.home import Home
from ..storage.opening import open_existing, required_spec
from ..storage.places import local_copy
from ..worker.best_network import best_trial
from ..worker.mirroring import trials_with_runs
from ..worker.opening import open_mirror


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synced:
    """What a sync did.

    Attributes:
        filled: Trials whose runs lacked something.
        failed: Trials that could not be recorded, because MLflow is down or refuses them.
        model: The id of the best trial's logged model; None without a saved network, or where MLflow is down.
    """

    filled: int
    failed: int
    model: str | None


def sync_all(home: Home, study: str) -> Synced:
    """Give MLflow all that it lacks of a study, from Optuna's storage and the home's files; twice changes nothing.

    With the trials of the study go those of the race for its champion, if there was one.

    Raises:
        StorageError: If there is no such study.
    """
    storage, opened = open_existing(home, study)
    filled, failed = sync_study(home, study)
    if race_name(opened.study_name) in optuna.get_all_study_names(storage):
        of_race = sync_study(home, race_name(opened.study_name))
        filled, failed = filled + of_race[0], failed + of_race[1]
    model = None
    if not failed:
        mirror = open_mirror(home, opened, required_spec(opened))
        attach_report(home, opened, mirror)
        model = log_best_network(home, opened, mirror)
    return Synced(filled=filled, failed=failed, model=model)


def attach_report(home: Home, study: optuna.Study, mirror: MlflowMirror) -> int | None:
    """Attach the written report to the best trial's run; return the trial's number, or None if either is missing."""
    places, best = home.report_files(study.study_name), _best_number(study)
    if best is None or not all(place.exists() for place in places):
        return None
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(local_copy(place)) for place in places]
        return best if mirror.attach_report(best, files) else None


def log_best_network(home: Home, study: optuna.Study, mirror: MlflowMirror) -> str | None:
    """Make the best trial's network a logged model of MLflow, once; return its id, or None if there is no network."""
    best = _best_number(study)
    with local_network(home, study, best) as path:
        return None if best is None or path is None else mirror.log_network(best, path)


@contextlib.contextmanager
def local_network(home: Home, study: optuna.Study, number: int | None) -> Iterator[Path | None]:
    """Give the file of a trial's network, or a copy of it; None if there is none."""
    place = home.networks / study.study_name / f"{number}.keras"
    if number is None or not place.exists():
        yield None
        return
    with local_copy(place) as file:
        yield file


def _best_number(study: optuna.Study) -> int | None:
    """Return the best trial that has a run; a zoom's copies have theirs with its parent."""
    best = best_trial(study)
    return best.number if best is not None and trials_with_runs([best]) else None
