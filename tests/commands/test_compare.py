"""`caviar compare`: equal budgets in epochs, spent by ordinary studies, refused before any work where it is wrong."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.trial import FrozenTrial, TrialState, create_trial

from caviar.attributes import STUDY_UID
from caviar.cli import main
from caviar.commands import epoch_budget
from caviar.commands.compare import archive_comparison, default_budget, plan_comparison, plan_lines
from caviar.commands.epoch_budget import Spending, n_epochs, read_trials, spend_on_study, trials_to_run
from caviar.commands.run import Progress, RunResult
from caviar.errors import FatalError, SpecError
from caviar.spec import StudySpec, parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.studies import archive_study, create_study, open_study

TOY = """
name = "toy"
seed = 7
data = { dataset = "tests.toy_data:blobs" }
objective = { epochs = 2 }
[search]
trials = 12
sampler = "tpe"
sampler_options = { n_startup_trials = 3 }
pruner = "none"
timeout_s = 60
[space]
learning_rate = { low = 1e-4, high = 0.5, scale = "log" }
momentum = { low = 0.5, high = 0.99, scale = "log-complement" }
depth = 1
units = 8
"""


def make_spec(**search: Any) -> StudySpec:
    return parse_spec(
        {
            "name": "toy",
            "seed": 7,
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": 10},
            "search": {"trials": 40, "pruner": "none", **search},
        }
    )


def trials(*lengths: int, state: TrialState = TrialState.COMPLETE) -> list[FrozenTrial]:
    """Return trials that reported so many epochs each."""
    value = None if state in (TrialState.FAIL, TrialState.WAITING) else 0.5
    return [create_trial(state=state, value=value, intermediate_values=dict.fromkeys(range(n), 0.5)) for n in lengths]


def caviar(home: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--home", str(home)])


def test_without_a_pruner_the_trials_are_the_whole_trainings_of_the_budget() -> None:
    assert trials_to_run([], budget_epochs=59, epochs=10, pruner="none") == 5
    assert trials_to_run(trials(10, 10), budget_epochs=59, epochs=10, pruner="none") == 5
    assert trials_to_run(trials(*[10] * 5), budget_epochs=59, epochs=10, pruner="none") == 5
    assert trials_to_run(trials(*[10] * 9), budget_epochs=59, epochs=10, pruner="none") == 9


def test_what_pruning_saves_is_spent_on_more_trials_at_the_price_of_those_before() -> None:
    pruned = [*trials(10), *trials(2, 2, 2, state=TrialState.PRUNED)]
    assert trials_to_run(pruned, budget_epochs=40, epochs=10, pruner="median") == 4 + 24 // 4
    assert trials_to_run(pruned, budget_epochs=25, epochs=10, pruner="median") == 4


def test_with_promotion_the_first_round_takes_its_usual_price() -> None:
    assert trials_to_run([], budget_epochs=40, epochs=12, pruner="median") == 3
    assert trials_to_run([], budget_epochs=40, epochs=12, pruner="promotion") == 10
    assert trials_to_run([], budget_epochs=4, epochs=2, pruner="promotion") == 4
    assert trials_to_run(trials(6, 6), budget_epochs=40, epochs=12, pruner="promotion") == 2 + 28 // 6


def test_failed_trials_cost_their_epochs_and_unfinished_ones_their_full_price() -> None:
    failed = trials(5, state=TrialState.FAIL)
    assert trials_to_run([*trials(10), *failed], budget_epochs=40, epochs=10, pruner="none") == 1 + 2
    waiting = trials(1, state=TrialState.WAITING)
    assert trials_to_run([*trials(10), *waiting], budget_epochs=40, epochs=10, pruner="none") == 4
    assert trials_to_run([], budget_epochs=100, epochs=10, pruner="none", most=6) == 6


def test_each_search_is_a_study_file_with_a_seed_of_its_repeat() -> None:
    spec = make_spec(sampler="tpe", sampler_options={"n_startup_trials": 4}, timeout_s=5.0)
    plan = plan_comparison(spec, ["random", "tpe", "zoom"], repeats=2)
    assert plan.budget_epochs == default_budget(spec) == 100
    searches = {one.name: one for _, _, one in plan.searches}
    assert list(searches) == [
        *("toy-compare-random-0", "toy-compare-tpe-0", "toy-compare-zooming-0"),
        *("toy-compare-random-1", "toy-compare-tpe-1", "toy-compare-zooming-1"),
    ]
    assert [one.seed for one in searches.values()] == [7, 7, 7, 8, 8, 8]
    assert searches["toy-compare-tpe-0"].search.sampler_options == {"n_startup_trials": 4}
    assert searches["toy-compare-random-0"].search.sampler_options == {}
    zooming = searches["toy-compare-zooming-0"].search
    assert (zooming.sampler, zooming.sampler_options) == ("zoom", {})
    assert {one.search.timeout_s for one in searches.values()} == {None}
    assert default_budget(make_spec(trials=1)) == 10


def test_a_grid_has_five_points_a_range_or_as_many_as_the_budget_needs() -> None:
    two = {"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}, "momentum": {"low": 0.5, "high": 0.9}}
    table = {"name": "toy", "data": {"dataset": "digits"}, "objective": {"epochs": 10}, "space": two}
    spec = parse_spec({**table, "search": {"pruner": "none"}})
    assert plan_comparison(spec, ["grid", "random"], budget_epochs=250).grid_size == 25
    assert plan_comparison(spec, ["grid", "random"], budget_epochs=260).grid_size == 36
    few = parse_spec({**table, "search": {"pruner": "none"}, "space": {"batch_size": {"choices": [32, 64]}}})
    plan = plan_comparison(few, ["grid", "random"], budget_epochs=100)
    assert plan.grid_size == 2
    assert "the grid ends after its 2 points" in plan_lines(plan)[-1]


@pytest.mark.parametrize(
    ("samplers", "more", "match"),
    [
        (["rnadom", "tpe"], {}, "No sampler is called 'rnadom'. Did you mean 'random'"),
        (["tpe"], {}, "two or more different samplers"),
        (["tpe", "tpe"], {}, "two or more different samplers"),
        (["random", "tpe"], {"budget_epochs": 9}, "at least one whole training, 10 epochs"),
        (["random", "tpe"], {"repeats": 0}, "--repeats must be at least 1"),
    ],
)
def test_what_is_wrong_is_refused(samplers: list[str], more: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        plan_comparison(make_spec(), samplers, **more)


def test_a_wrong_command_ends_with_2_and_leaves_nothing(tmp_path: Path) -> None:
    file, home = tmp_path / "toy.toml", tmp_path / "runs"
    file.write_text(TOY)
    for arguments in (("--samplers", "random,zom"), ("--samplers", "random,tpe", "--budget-epochs", "1")):
        result = caviar(home, "compare", file, *arguments)
        assert result.exit_code == 2
        assert "Error: " in result.output
    assert not home.exists()


def test_a_fresh_comparison_keeps_the_studies_of_before_under_other_names(prepared_home: Path) -> None:
    home, plan = locate_home(prepared_home), plan_comparison(make_spec(), ["random", "tpe"], repeats=1)
    assert archive_comparison(plan, home) == []
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    for _, _, spec in plan.searches[:1]:
        create_study(storage, spec, attributes={"caviar:uid": spec.name})
    assert archive_comparison(plan, home) == ["toy-compare-random-0.archived-1"]
    assert optuna.get_all_study_names(storage) == ["toy-compare-random-0.archived-1"]


def test_a_budget_is_spent_in_rounds_and_nothing_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = locate_home(tmp_path)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    budgets = []

    def run_study(spec: StudySpec, _home: Home, **_: Any) -> RunResult:
        """Stand in for what trains: of every three trials two are pruned after two epochs."""
        study = create_study(storage, spec, attributes={})
        n_new = spec.search.trials - len(study.trials)
        budgets.append(spec.search.trials)
        for number in range(n_new):
            study.add_trials(trials(2, state=TrialState.PRUNED) if number % 3 else trials(10))
        progress = Progress(
            study=spec.name, budget=spec.search.trials, done=spec.search.trials, pruned=0, failed=0, best_value=0.5
        )
        return RunResult(finished_now=n_new, progress=progress)

    monkeypatch.setattr(epoch_budget, "run_study", run_study)
    spec = make_spec(sampler="tpe", pruner="median")
    for _ in range(2):
        spending = spend_on_study(spec, home, budget_epochs=90, on_progress=lambda _: None)
        assert spending == Spending(study="toy", uid=None, interrupted=False)
    assert budgets[0] == 9
    assert budgets == sorted(set(budgets))
    assert 81 <= n_epochs(read_trials(home, "toy", uid=None)) <= 100


def test_a_budget_is_spent_on_one_study_whoever_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = locate_home(tmp_path)
    storage = open_storage(home.storage, owner=new_owner(), create=True)

    def run_study(spec: StudySpec, _home: Home, **_: Any) -> RunResult:
        """Stand in for what trains; meanwhile another shell begins the study anew."""
        create_study(storage, spec, attributes={STUDY_UID: "first"}).add_trials(trials(2, state=TrialState.PRUNED))
        archive_study(storage, spec.name)
        create_study(storage, spec, attributes={STUDY_UID: "second"})
        progress = Progress(study="toy", uid="first", budget=9, done=1, pruned=1, failed=0, best_value=None)
        return RunResult(finished_now=1, progress=progress)

    monkeypatch.setattr(epoch_budget, "run_study", run_study)
    with pytest.raises(FatalError, match="it is another: run the command again"):
        spend_on_study(make_spec(pruner="median"), home, budget_epochs=90, on_progress=lambda _: None)
    assert open_study(storage, "toy").trials == []


@pytest.mark.slow
def test_a_comparison_spends_equal_budgets_goes_on_and_repeats_nothing(tmp_path: Path, prepared_home: Path) -> None:
    file = tmp_path / "toy.toml"
    file.write_text(TOY)
    command = ("compare", file, "--samplers", "grid,random", "--budget-epochs", "5")
    first = caviar(prepared_home, *command, "--repeats", "1")
    assert first.exit_code == 0, first.output
    assert "1 repeat cannot show a difference" in first.stdout
    storage = open_storage(locate_home(prepared_home).storage, owner=new_owner())
    before = {s.study_name: s._study_id for s in optuna.get_all_study_summaries(storage)}
    second = caviar(prepared_home, *command, "--repeats", "2", "--json")
    assert second.exit_code == 0, second.output
    said = json.loads(second.stdout)
    assert said["interrupted"] is False
    assert [entry["trials"] for entry in said["samplers"]] == [[2, 2], [2, 2]]
    assert [entry["epochs"] for entry in said["samplers"]] == [[4, 4], [4, 4]]
    assert all(math.isfinite(value) for entry in said["samplers"] for value in entry["finals"])
    after = {s.study_name: s for s in optuna.get_all_study_summaries(storage)}
    assert set(after) == {f"toy-compare-{name}-{repeat}" for name in ("grid", "random") for repeat in (0, 1)}
    assert {name: after[name]._study_id for name in before} == before
    assert {summary.n_trials for summary in after.values()} == {2}
    assert json.loads(Path(said["json"]).read_text())["budget_epochs"] == 5
    assert "<h2>Values tried</h2>" in Path(said["html"]).read_text()
