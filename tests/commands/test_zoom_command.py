"""`caviar zoom`: linked child studies, run exactly once, whatever dies."""

import dataclasses
import itertools
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.trial import TrialState, create_trial
from tests.processes import Watch, running, running_here, wait_until

from caviar.attributes import CHILDREN, FINGERPRINT, PARENT, PAUSED, SAMPLING_SEED, STUDY_UID
from caviar.cli import main
from caviar.commands.family import archive_family, open_ancestors, open_descendants
from caviar.commands.report import read_family
from caviar.commands.status import list_trials, status_lines, study_status
from caviar.commands.zoom import zoom_facts, zoom_study
from caviar.data.dataset import DatasetFacts
from caviar.data.loading import load_dataset
from caviar.engines.processes import ProcessEngine
from caviar.errors import FatalError
from caviar.insight.family import parent_name
from caviar.metrics import Direction
from caviar.search.narrowing import MIN_WIDTH, ZoomRule
from caviar.search.sequences import value_at
from caviar.search.zoom import narrow_space, observations_of
from caviar.spec import StudySpec, parse_spec
from caviar.storage.home import Home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import archive_study, create_study, open_study, stored_spec

SPEC: dict[str, Any] = {
    "name": "toy",
    "data": {"dataset": "tests.toy_data:blobs"},
    "objective": {"epochs": 2},
    "search": {"trials": 20, "sampler": "random", "pruner": "none", "lease_s": 2.0},
    "space": {
        "learning_rate": {"low": 1e-5, "high": 0.5, "scale": "log"},
        "momentum": {"low": 0.5, "high": 0.99, "scale": "log-complement"},
        "depth": 1,
        "units": 8,
    },
}
LARGE = """
name = "toy"
data = { dataset = "tests.toy_data:blobs" }
objective = { epochs = 2 }
[search]
trials = 21
sampler = "random"
pruner = "none"
lease_s = 2.0
[space]
learning_rate = { low = 1e-5, high = 0.5, scale = "log" }
momentum = { low = 0.5, high = 0.99, scale = "log-complement" }
depth = 1
units = 8
"""
EVERY_KIND = """
name = "toy"
data = { dataset = "tests.toy_data:blobs" }
objective = { epochs = 2 }
[search]
trials = 60
sampler = "SAMPLER"
pruner = "promotion"
[space]
learning_rate = { low = 1e-5, high = 0.5, scale = "log" }
depth = { low = 1, high = 4 }
units = { low = 4, high = 64, scale = "log" }
batch_norm = { choices = ["none", "before_activation", "after_activation"] }
"""
Params = dict[str, Any]


def near_a_tenth(params: Params) -> float:
    """Return an accuracy that only the learning rate decides."""
    return round(0.9 - 0.1 * abs(math.log10(params["learning_rate"]) + 1), 6)


def fill(
    study: optuna.Study,
    spec: StudySpec,
    n: int,
    score: Callable[[Params], float],
    *,
    seed: int = 0,
    state: TrialState = TrialState.COMPLETE,
) -> None:
    """Give a study finished trials that nobody trained."""
    rng = np.random.default_rng(seed)
    distributions = spec.space.distributions()
    for _ in range(n):
        params = {name: value_at(distribution, rng.random()) for name, distribution in distributions.items()}
        value = score(params)
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=params,
                distributions=distributions,
                intermediate_values={0: value / 2, 1: value},
                user_attrs={"best_value": value, "best_epoch": 1},
            )
        )


@pytest.fixture(scope="module")
def fingerprint() -> str:
    return load_dataset("tests.toy_data:blobs").fingerprint


def make(storage: LeasedStorage, fingerprint: str, **changes: Any) -> tuple[optuna.Study, StudySpec]:
    spec = parse_spec({**SPEC, **changes})
    return create_study(storage, spec, attributes={FINGERPRINT: fingerprint, "caviar:uid": spec.name}), spec


def caviar(home: Home, *arguments: str | float | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--home", str(home.path)])


def succeed(home: Home, *arguments: str | float | Path) -> Result:
    result = caviar(home, *arguments)
    assert result.exit_code == 0, result.output
    return result


def names(storage: LeasedStorage) -> list[str]:
    return sorted(optuna.get_all_study_names(storage))


@pytest.mark.parametrize(
    ("n", "score", "exit_code", "message"),
    [
        (0, near_a_tenth, 2, "The study has no trials yet"),
        (1, near_a_tenth, 2, "A zoom needs at least 5 trials with a result, but the study has 1"),
        (8, lambda _params: 0.5, 0, "All 8 trials reached the same result"),
    ],
)
def test_a_study_that_says_nothing_is_not_zoomed_in_to_and_nothing_is_created(
    home: Home,
    storage: LeasedStorage,
    fingerprint: str,
    n: int,
    score: Callable[[Params], float],
    exit_code: int,
    message: str,
) -> None:
    study, spec = make(storage, fingerprint)
    fill(study, spec, n, score)
    result = caviar(home, "zoom", "toy")
    assert (result.exit_code, message in result.stderr) == (exit_code, True), result.output
    assert names(storage) == ["toy"]
    assert CHILDREN not in study.user_attrs


def test_an_all_pruned_study_without_results_says_so(home: Home, storage: LeasedStorage, fingerprint: str) -> None:
    study, spec = make(storage, fingerprint)
    params = {"learning_rate": 0.1, "one_minus_momentum": 0.1}
    pruned = create_trial(state=TrialState.PRUNED, params=params, distributions=spec.space.distributions())
    study.add_trials([pruned] * 6)
    result = caviar(home, "zoom", "toy")
    assert (result.exit_code, "None of the 6 trials has a result" in result.stderr) == (2, True), result.output
    assert names(storage) == ["toy"]


def test_a_zoom_is_made_of_the_study_that_it_was_planned_from_alone(
    home: Home, storage: LeasedStorage, fingerprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, spec = make(storage, fingerprint)
    fill(study, spec, 20, near_a_tenth)

    def get_ready(*_: object, **__: object) -> DatasetFacts:
        """Stand in for workers that get ready; meanwhile another shell begins the study anew."""
        archive_study(storage, "toy")
        create_study(storage, spec, attributes={FINGERPRINT: fingerprint, STUDY_UID: "second"})
        return DatasetFacts.of(load_dataset(spec.data.dataset))

    monkeypatch.setattr(ProcessEngine, "get_ready", get_ready)
    with pytest.raises(FatalError, match="it is another: run the command again"):
        zoom_study(home, "toy")
    assert names(storage) == ["toy", "toy.archived-1"]


@pytest.mark.slow
def test_an_all_pruned_study_is_zoomed_in_to_by_what_its_trials_reached(
    home: Home, storage: LeasedStorage, fingerprint: str
) -> None:
    study, spec = make(storage, fingerprint)
    fill(study, spec, 20, near_a_tenth, state=TrialState.PRUNED)
    said = succeed(home, "zoom", "toy", "--trials", "1").stderr
    assert "None was trained to its end: they are ranked by the best that they reached" in said
    assert zoom_facts(open_study(storage, "toy-zoom-1")) is not None


def test_at_the_floor_another_zoom_is_not_worth_it(home: Home, storage: LeasedStorage, fingerprint: str) -> None:
    root, _ = make(storage, fingerprint)
    width = 10 ** (MIN_WIDTH * math.log10(0.5 / 1e-5) / 2)
    space = {**SPEC["space"], "learning_rate": {"low": 0.1 / width, "high": 0.1 * width, "scale": "log"}}
    child, spec = make(storage, fingerprint, name="toy-zoom-1", space=space)
    root.set_user_attr(CHILDREN, ["toy-zoom-1"])
    child.set_user_attr(PARENT, "toy")
    fill(child, spec, 20, near_a_tenth)
    for _ in range(2):  # and it says the same again
        said = succeed(home, "zoom", "toy-zoom-1").stderr
        assert "Nothing was created: The best 4 of 20 trials are spread over the whole space" in said
    assert names(storage) == ["toy", "toy-zoom-1"]


@pytest.mark.slow
def test_what_is_parked_stays_its_parents(home: Home, storage: LeasedStorage, fingerprint: str) -> None:
    study, spec = make(storage, fingerprint, search={**SPEC["search"], "pruner": "promotion"})
    fill(study, spec, 20, near_a_tenth)
    params = {"learning_rate": 0.1, "one_minus_momentum": 0.1}
    parked = create_trial(
        state=TrialState.WAITING,
        params=params,
        distributions=spec.space.distributions(),
        intermediate_values={0: 0.95},
        system_attrs={PAUSED: True},
    )
    study.add_trial(parked)
    outcome = zoom_study(home, "toy", trials=1)
    assert outcome.child is not None
    assert all(trial.state.is_finished() for trial in open_study(storage, outcome.child).get_trials())
    assert study.get_trials()[20].state == TrialState.WAITING


@pytest.mark.parametrize(("option", "value"), [("--keep", "1.5"), ("--keep", "0"), ("--trials", "0")])
def test_bad_arguments_are_refused(
    home: Home, storage: LeasedStorage, fingerprint: str, option: str, value: str
) -> None:
    study, spec = make(storage, fingerprint)
    fill(study, spec, 20, near_a_tenth)
    result = caviar(home, "zoom", "toy", option, value)
    assert (result.exit_code, option[2:] in result.stderr) == (2, True), result.output
    assert names(storage) == ["toy"]


@pytest.mark.slow
def test_a_zoom_is_a_linked_study_that_begins_with_what_fits_and_runs_its_own_trials_once(
    home: Home, storage: LeasedStorage, fingerprint: str
) -> None:
    study, spec = make(storage, fingerprint)
    fill(study, spec, 20, near_a_tenth)
    said = succeed(home, "zoom", "toy", "--trials", "3")
    assert "toy-zoom-1: The best 4 of 20 trials lie in" in said.stderr
    assert "learning_rate narrowed to" in said.stderr
    child = open_study(storage, "toy-zoom-1")
    facts, child_spec = zoom_facts(child), stored_spec(child)
    assert facts is not None
    assert child_spec is not None
    assert (study.user_attrs[CHILDREN], child.user_attrs[PARENT]) == (["toy-zoom-1"], "toy")
    assert (facts.trials, facts.keep, child_spec.search.trials) == (3, 0.2, facts.n_copied + 3)
    assert dataclasses.replace(child_spec, name="toy", space=spec.space, search=spec.search) == spec
    rows = list_trials(home, "toy-zoom-1")
    copies = [row for row in rows if "parent_trial" in row]
    assert len(copies) == facts.n_copied >= facts.n_best == 4
    assert len(rows) == facts.n_copied + 3
    by_number = {trial.number: trial for trial in study.get_trials()}
    assert all(row["learning_rate"] == by_number[row["parent_trial"]].params["learning_rate"] for row in copies)
    assert child.user_attrs[SAMPLING_SEED] != str(spec.seed)
    child.get_trials()  # Optuna finds the copies' distributions compatible
    assert sorted(Watch(home.path, "toy-zoom-1").runs_by_trial()) == [facts.n_copied + new for new in range(3)]
    assert "Recorded 0 trials" in succeed(home, "sync", "toy-zoom-1").stdout

    again = json.loads(succeed(home, "zoom", "toy", "--json").stdout)
    assert (again["zoom"]["child"], "is already finished" in again["zoom"]["reason"]) == (None, True)
    more = json.loads(succeed(home, "zoom", "toy", "--trials", "4", "--json").stdout)
    assert (more["study"], more["zoom"]["created"], more["budget"]) == ("toy-zoom-1", False, facts.n_copied + 4)
    assert sum(more["trials"][state] for state in ("complete", "pruned")) == facts.n_copied + 4
    assert names(storage) == ["toy", "toy-zoom-1"]

    state = study_status(home, "toy")
    assert [(one["study"], one["parent"]) for one in state["family"]] == [("toy", None), ("toy-zoom-1", "toy")]
    assert f"  ↳ toy-zoom-1: 4 of 4 trials, best {state['metric']}" in "\n".join(status_lines(state))
    assert state["family_best"]["value"] == max(one["best"]["value"] for one in state["family"])


@pytest.mark.slow
def test_a_zoom_that_is_killed_goes_on_to_its_exact_budget(
    home: Home, storage: LeasedStorage, fingerprint: str, tmp_path: Path
) -> None:
    study, spec = make(storage, fingerprint, **tomllib.loads(LARGE))
    fill(study, spec, 21, near_a_tenth)
    zoom = Watch(home.path, "toy-zoom-1")
    with running("zoom", "toy", "--trials", "150", "--home", home.path, warm=True) as process:
        wait_until(lambda: process.ended() or bool(zoom.holders()), poll_s=0.01)
        process.kill_all()
    killed_with = zoom.finished()
    with running_here("zoom", "toy", "--home", home.path) as process:
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    root = Watch(home.path)
    facts = zoom_facts(zoom.study)
    assert facts is not None
    assert killed_with < facts.n_copied + 150
    assert (root.finished(), len(root.trials())) == (21, 21)
    assert (zoom.finished(), len(zoom.trials())) == (facts.n_copied + 150, facts.n_copied + 150)
    assert names(root.storage) == ["toy", "toy-zoom-1"]
    assert set(zoom.runs_by_trial().values()) == {1}
    assert len(zoom.runs_by_trial()) == 150
    assert "toy-zoom-1: 150 of 150 trials" in ended.stdout
    assert "compare-experiments/s?experiments=" in ended.stderr


def of_every_kind(params: Params) -> float:
    """Return an accuracy that a choice, two whole numbers and the learning rate decide."""
    far = abs(params["depth"] - 3) + abs(math.log2(params["units"] / 12)) + abs(math.log10(params["learning_rate"]) + 1)
    return float(round(0.6 - 0.05 * far - 0.2 * (params["batch_norm"] == "none"), 6))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_narrowed_choices_and_whole_numbers_are_searched_on_through_two_zooms(
    home: Home, storage: LeasedStorage, fingerprint: str, tmp_path: Path, sampler: str
) -> None:
    study, spec = make(storage, fingerprint, **tomllib.loads(EVERY_KIND.replace("SAMPLER", sampler)))
    fill(study, spec, 60, of_every_kind)
    for name in ("toy", "toy-zoom-1"):
        succeed(home, "zoom", name, "--trials", 6, "--keep", 0.1)
    assert names(storage) == ["toy", "toy-zoom-1", "toy-zoom-2"]
    before = spec
    for name in ("toy-zoom-1", "toy-zoom-2"):
        zoom = open_study(storage, name)
        stored, facts = stored_spec(zoom), zoom_facts(zoom)
        assert stored is not None
        assert facts is not None
        trials = zoom.get_trials()
        assert [trial.state.is_finished() for trial in trials] == [True] * (facts.n_copied + 6)
        distributions = stored.space.distributions()
        for trial in trials:  # copies and new ones alike: Optuna refuses to mix two ranges or two sets of choices
            assert trial.distributions == {key: distributions[key] for key in trial.params}
        parent = open_study(storage, parent_name(zoom) or "")
        seen = observations_of(parent.get_trials(), Direction.MAXIMIZE)
        rule = ZoomRule(keep=facts.keep)
        assert narrow_space(before.space, seen, root=spec.space, rule=rule).space == stored.space
        before = stored
    first, kinds = stored_spec(open_study(storage, "toy-zoom-1")), spec.space.distributions()
    assert first is not None
    narrowed = first.space.distributions()
    assert {key for key, kind in kinds.items() if narrowed.get(key) != kind} >= {"batch_norm", "depth", "units"}


def family(storage: LeasedStorage, fingerprint: str) -> list[optuna.Study]:
    """Make three generations without a trial."""
    made = [make(storage, fingerprint, name=name)[0] for name in ("toy", "toy-zoom-1", "toy-zoom-2")]
    for parent, child in itertools.pairwise(made):
        parent.set_user_attr(CHILDREN, [child.study_name])
        child.set_user_attr(PARENT, parent.study_name)
    return made


def test_a_study_and_its_zooms_are_archived_together_and_stay_linked(
    home: Home, storage: LeasedStorage, fingerprint: str
) -> None:
    root, *_ = family(storage, fingerprint)
    assert [study.study_name for study in open_descendants(storage, root)] == ["toy-zoom-1", "toy-zoom-2"]
    assert archive_family(storage, home, "toy") == "toy.archived-1"
    assert names(storage) == ["toy-zoom-1.archived-1", "toy-zoom-2.archived-1", "toy.archived-1"]
    archived = open_study(storage, "toy.archived-1")
    zooms = open_descendants(storage, archived)
    assert [zoom.study_name for zoom in zooms] == ["toy-zoom-1.archived-1", "toy-zoom-2.archived-1"]
    assert [study.study_name for study in open_ancestors(storage, zooms[-1])] == [
        *("toy-zoom-1.archived-1", "toy.archived-1")
    ]


def test_a_circle_of_links_is_cut_and_every_member_sees_the_whole_family(
    storage: LeasedStorage, fingerprint: str
) -> None:
    root, middle, last = family(storage, fingerprint)
    names = ["toy", "toy-zoom-1", "toy-zoom-2"]
    assert [[member.name for member in read_family(storage, one)] for one in (root, middle, last)] == [names] * 3
    assert [member.is_current for member in read_family(storage, middle)] == [False, True, False]
    root.set_user_attr(PARENT, "toy-zoom-2")
    last.set_user_attr(CHILDREN, ["toy"])
    assert {member.name for member in read_family(storage, root)} == set(names)


@pytest.mark.slow
def test_deleting_a_study_names_its_zooms_and_deletes_them_too(
    home: Home, storage: LeasedStorage, fingerprint: str
) -> None:
    family(storage, fingerprint)
    asked = CliRunner().invoke(main, ["delete", "toy", "--home", str(home.path)], input="n\n")
    assert "and its zooms 'toy-zoom-1' (0 trials), 'toy-zoom-2' (0 trials) in" in asked.stderr
    succeed(home, "delete", "toy-zoom-2", "--yes")
    assert names(storage) == ["toy", "toy-zoom-1"]
    assert open_study(storage, "toy-zoom-1").user_attrs[CHILDREN] == []
    succeed(home, "delete", "toy", "--yes")
    assert names(storage) == []
