"""The champion of a study: raced, refitted, tested once, and written below the home."""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial

from ..attributes import FINGERPRINT, TESTED
from ..champion.candidates import race_name
from ..champion.championship import Race, RaceResult
from ..champion.ensemble import compare_ensemble
from ..champion.export import Description, better_lines, ensemble_lines, write_champion
from ..champion.refit import Refit, refit
from ..champion.registered import register_champion
from ..champion.saved import probabilities_of
from ..champion.standing import champion_workshop, publish
from ..champion.testing import TestFigures, baseline_accuracies, test_figures
from ..data.loading import Data, open_data
from ..data.names import absolute_data
from ..engines.work import prepare_devices
from ..errors import SpecError, StorageError
from ..record.tracking import prepare_tracking
from ..spec import StudySpec
from ..storage.database import creation_lock
from ..storage.home import Home, prepare_home
from ..storage.opening import open_existing, required_spec
from ..storage.places import Place
from .family import archive_family
from .work import stop_on_signals

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChampionResult:
    """What came out.

    Attributes:
        directory: Where the champion stands.
        description: What ``champion.json`` says; None where the race was interrupted.
        model_uri: Its address in MLflow; None while MLflow is down.
    """

    directory: Place
    description: Mapping[str, Any] | None
    model_uri: str | None = None


def make_champion(
    home: Home,
    study: str,
    *,
    top: int = 5,
    seeds: int = 5,
    ensemble: int | None = None,
    fresh: bool = False,
    again: bool = False,
    on_trial: Callable[[int, int], None] = lambda _done, _total: None,
    say: Callable[[str], None] = lambda _line: None,
) -> ChampionResult:
    """Find the network of a study that is really best, train it on all data, test it once, and write it.

    Args:
        home: Where the study lives.
        study: Its name or its file.
        top: How many of its best trials race, at least 1.
        seeds: Trainings of each, on average, at least 2; and as many of the winner that confirm it.
        ensemble: How many networks of the winning configuration are averaged, at least 2, if that is better than one;
            None for one.
        fresh: Whether an earlier race is archived and a new one begun.
        again: Whether the test split may be read although it was read before; that is written down.
        on_trial: Called with the race's trainings that have ended and how many there are at most.
        say: Called with what begins after the race.

    Raises:
        SpecError: If a number is outside its range, or the test split was read before.
        StorageError: If there is no such study, it has no complete trial, or another champion is being made.
        DataError: If the data cannot be loaded.
    """
    if top < 1 or seeds < 2:
        raise SpecError(f"--top must be at least 1 and --seeds at least 2, but got {top} and {seeds}.")
    if ensemble is not None and ensemble < 2:
        raise SpecError(f"--ensemble must be at least 2 networks, but got {ensemble}.")
    storage, parent = open_existing(home, study)
    spec = required_spec(parent)
    spec = dataclasses.replace(spec, data=absolute_data(spec.data))
    prepare_home(home)
    prepare_devices(threads=os.cpu_count() or 1)
    data = open_data(spec.data)
    if parent.user_attrs.get(FINGERPRINT, data.fingerprint) != data.fingerprint:
        raise SpecError(f"The data set {spec.data.dataset!r} has changed since the study {spec.name!r} was begun.")
    prepare_tracking(home.tracking_uri, artifact_location=home.mlflow_artifacts.as_uri())
    with _only_one(home, spec.name):
        if fresh and race_name(spec.name) in optuna.get_all_study_names(storage):
            with creation_lock(storage):
                archive_family(storage, home, race_name(spec.name))
        race = Race(storage, home, parent=parent, spec=spec, data=data, top=top, seeds=seeds)
        _check_untested(race.study, again=again)
        stop, done = threading.Event(), [0]

        def count(_trial: FrozenTrial, total: int) -> None:
            done[0] += 1
            on_trial(done[0], total)

        directory, compared = home.champions / spec.name, None
        with stop_on_signals(stop):
            result = race.run(stop=stop, on_trial=count)
            if result is not None and ensemble is not None:
                compared = compare_ensemble(
                    race.study,
                    data,
                    spec,
                    result.candidates[result.winner].params,
                    epochs=result.epochs,
                    n_networks=ensemble,
                    n_cuts=seeds,
                    stop=stop,
                    say=say,
                )
        if result is None or (ensemble is not None and compared is None):
            return ChampionResult(directory=directory, description=None)
        n_networks = compared.n_networks if compared is not None and compared.is_kept else 1
        many = "One network trains" if n_networks == 1 else f"{n_networks} networks train"
        say(f"{many} for {result.epochs} epochs on all data but the test split.")
        trained = refit(
            data, spec, result.candidates[result.winner].params, epochs=result.epochs, n_networks=n_networks
        )
        figures = _test_once(race.study, data, spec, result, trained)
        description = Description(
            name=spec.name, spec=spec, data=data, race=result, ensemble=compared, trained=trained, test=figures
        )
        table = description.table()
        example = data.examples.take(np.arange(min(3, len(data.examples.labels)))).features
        with champion_workshop(directory) as workshop:
            write_champion(workshop, description)
            publish(workshop, directory)
            model_uri = register_champion(home, workshop, table, example=example)
    return ChampionResult(directory=directory, description=table, model_uri=model_uri)


def champion_lines(result: ChampionResult) -> list[str]:
    """Return what is to be said of a champion."""
    if result.description is None:
        return ["Interrupted. What is done is kept; the same command goes on."]
    table = result.description
    race, test = table["race"], table["test"]
    share, low, high = test["accuracy"]
    mean, mean_low, mean_high = race["confirmed"]
    by = "too high" if race["optimism"] >= 0 else "too low"
    return [
        f"trial {race['winner']} won a race of {len(race['candidates'])} over {race['n_trainings']} trainings",
        (
            f"{race['metric']} {mean:.4f} (95 % interval {mean_low:.4f} to {mean_high:.4f}); "
            f"the search's value was {abs(race['optimism']):.4f} {by}"
        ),
        *ensemble_lines(table["ensemble"], race["metric"]),
        f"test accuracy {share:.4f} (95 % interval {low:.4f} to {high:.4f}, {test['n']} examples)",
        "; ".join(f"{name} {accuracy:.4f}" for name, accuracy in test["baselines"].items()),
        *better_lines(test["baselines"], share),
        f"{result.directory}",
        *([f"in MLflow: {result.model_uri}"] if result.model_uri else []),
    ]


def _check_untested(study: optuna.Study, *, again: bool) -> None:
    tested = json.loads(study.user_attrs.get(TESTED, "[]"))
    if tested and tested[-1]["finished"] and not again:
        raise SpecError(
            f"The test split was read for {study.study_name!r} on {tested[-1]['at']}. A second reading makes its "
            "figures too good. If you must, say --again: it is written down."
        )


def _test_once(study: optuna.Study, data: Data, spec: StudySpec, race: RaceResult, trained: Refit) -> TestFigures:
    """Read the test split, and write down that it was read."""
    tested = json.loads(study.user_attrs.get(TESTED, "[]"))
    if not tested or tested[-1]["finished"]:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        tested.append({"at": at, "winner": race.candidates[race.winner].number, "finished": False})
        study.set_user_attr(TESTED, json.dumps(tested))
    test = data.test(trained.preprocessing)
    baselines, n_rows = baseline_accuracies(trained.train, test, seed=spec.seed)
    figures = test_figures(
        probabilities_of(trained.model, test.features),
        test,
        class_names=data.class_names,
        baselines=baselines,
        baseline_rows=n_rows,
    )
    tested[-1] |= {"finished": True, "accuracy": figures.accuracy.mean}
    study.set_user_attr(TESTED, json.dumps(tested))
    return figures


@contextlib.contextmanager
def _only_one(home: Home, study: str) -> Iterator[None]:
    home.locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.locks / f".{study}.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise StorageError(f"Another process is making the champion of {study!r}. Wait until it has ended.") from error
