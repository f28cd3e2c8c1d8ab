"""`caviar run --from`: a study that starts from what another one learned."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.trial import TrialState, create_trial
from tests.processes import Watch, kill_holders, running_here, wait_until

from caviar.attributes import FINGERPRINT, WARM_START
from caviar.cli import main
from caviar.commands.report import report_study
from caviar.commands.status import list_trials, study_status
from caviar.data.loading import load_dataset
from caviar.insight.report import render_html
from caviar.search.sequences import value_at
from caviar.search.warm_start import warm_start_of
from caviar.spec import DataSpec, StudySpec, parse_spec
from caviar.storage.home import Home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study, open_study
from caviar.worker.opening import sampling_seed

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 0.5, "scale": "log"},
    "momentum": {"low": 0.5, "high": 0.99, "scale": "log-complement"},
    "depth": 1,
    "units": 8,
}
SOURCE: dict[str, Any] = {
    "name": "source",
    "data": {"dataset": "tests.toy_data:blobs"},
    "objective": {"epochs": 2},
    "search": {"trials": 40, "sampler": "random", "pruner": "none"},
    "space": SPACE,
}
TOY = """
name = "toy"
seed = 1
data = {{ dataset = "tests.toy_data:blobs" }}
objective = {{ epochs = 2 }}
[search]
trials = {trials}
sampler = "{sampler}"
pruner = "none"
lease_s = 2.0
trainer = "{trainer}"
[space]
learning_rate = {{ low = 1e-4, high = 0.5, scale = "log" }}
momentum = {{ low = 0.5, high = 0.99, scale = "log-complement" }}
depth = 1
units = 8
"""


def write(tmp_path: Path, *, trials: int = 12, sampler: str = "tpe", trainer: str = "auto") -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(TOY.format(trials=trials, sampler=sampler, trainer=trainer))
    return path


def make_source(storage: LeasedStorage, *, n: int = 40, **changes: Any) -> optuna.Study:
    """Give a study finished trials that nobody trained: an accuracy that only the learning rate decides."""
    spec = parse_spec({**SOURCE, **changes})
    study = create_study(storage, spec, attributes={FINGERPRINT: load_dataset("tests.toy_data:blobs").fingerprint})
    fill(study, spec, n)
    return study


def fill(study: optuna.Study, spec: StudySpec, n: int) -> None:
    rng, distributions = np.random.default_rng(0), spec.space.distributions()
    for _ in range(n):
        params = {name: value_at(distribution, rng.random()) for name, distribution in distributions.items()}
        value = 0.9 - 0.1 * abs(math.log10(params.get("learning_rate", 0.1)) + 1)
        study.add_trial(create_trial(value=value, params=params, distributions=distributions))


def caviar(home: Home, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--home", str(home.path)])


def refuse(home: Home, storage: LeasedStorage, *arguments: str | Path) -> str:
    before = sorted(optuna.get_all_study_names(storage))
    result = caviar(home, "run", *arguments)
    assert result.exit_code == 2, result.output
    assert sorted(optuna.get_all_study_names(storage)) == before
    return result.stderr


def params_of(storage: LeasedStorage, name: str = "toy") -> list[dict[str, Any]]:
    return [trial.params for trial in open_study(storage, name).get_trials(deepcopy=False)]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["fleet", "solo"])
def test_the_sources_best_configurations_are_the_first_trials(
    tmp_path: Path, home: Home, storage: LeasedStorage, trainer: str
) -> None:
    make_source(storage)
    file = write(tmp_path, trials=8, trainer=trainer)
    result = caviar(home, "run", file, "--from", "source")
    assert result.exit_code == 0, result.output
    assert "warm start from source: tries its trial" in result.stdout
    study = open_study(storage, "toy")
    warm = warm_start_of(study)
    assert warm is not None
    assert len(warm.configurations) == 2
    assert params_of(storage)[:2] == [dict(configuration.params) for configuration in warm.configurations]
    assert all(trial.state == TrialState.COMPLETE for trial in study.get_trials())
    rows = list_trials(home, "toy")
    assert sampling_seed(study, StudySpec(name="toy", data=DataSpec(dataset="x"), seed=1)) != 1
    assert [row.get("warm_start") for row in rows] == [f"source {c.trial}" for c in warm.configurations] + [None] * 6
    told = study_status(home, "toy")["warm_start"]
    assert (told["source"], len(told["configurations"]), list(told["prior"])) == ("source", 2, ["learning_rate"])
    assert study_status(home, "source")["warm_start"] is None

    optuna.delete_study(study_name="source", storage=storage)
    for again in ([], ["--from", "source"]):  # nothing depends on the source staying there
        result = caviar(home, "run", file, *again, "--trials", str(len(params_of(storage)) + 1))
        assert result.exit_code == 0, result.output
    assert len(params_of(storage)) == 10

    written = report_study(home, "toy")
    assert written.report.warm_start is not None
    assert [c["value_here"] for c in written.report.warm_start["configurations"]] == [row["value"] for row in rows[:2]]
    assert "Warm start" in render_html(written.report)
    json.dumps(dataclasses.asdict(written.report))


@pytest.mark.slow
def test_two_workers_one_killed_run_each_configuration_once(tmp_path: Path, home: Home, storage: LeasedStorage) -> None:
    make_source(storage)
    file = write(tmp_path, trials=40, sampler="random")
    watch = Watch(home.path)
    with running_here("run", file, "--home", home.path, "--from", "source", "--workers", "2") as process:
        wait_until(lambda: bool(watch.holders()) or process.ended())
        kill_holders(watch, process, every=5, at_most=1)
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert watch.finished() == 40
    warm = warm_start_of(watch.study)
    assert warm is not None
    drawn = [trial.params for trial in watch.trials()]
    assert drawn[: len(warm.configurations)] == [dict(configuration.params) for configuration in warm.configurations]
    assert len({tuple(params.items()) for params in drawn}) == 40


def test_another_source_is_refused(tmp_path: Path, home: Home, storage: LeasedStorage) -> None:
    make_source(storage)
    make_source(storage, name="other")
    file = write(tmp_path)
    spec = parse_spec({**SOURCE, "name": "toy"})
    study = create_study(storage, spec, attributes={})
    cold = refuse(home, storage, file, "--from", "other")
    assert "'toy' was begun without --from, not --from 'other'" in cold
    study.set_user_attr(WARM_START, json.dumps(_table("source")))
    told = refuse(home, storage, file, "--from", "other")
    assert "'toy' was begun --from 'source', not --from 'other'" in told
    assert "--set name" in told
    assert "--fresh" in told
    assert "--from 'source'" in refuse(home, storage, file, "--from", "other", "--dry-run")


def _table(source: str) -> dict[str, Any]:
    return {
        "source": source,
        "n_trials": 1,
        "configurations": [],
        "prior": None,
        "prior_share": 0.5,
        "reason": "",
    }


def test_sources_that_teach_nothing_are_refused_before_anything_is_made(
    tmp_path: Path, home: Home, storage: LeasedStorage
) -> None:
    file = write(tmp_path)
    make_source(storage, name="empty", n=0)
    make_source(storage, name="losses", objective={"metric": "val_loss"})
    make_source(storage, name="widths", space={"units": {"low": 8, "high": 64}, "learning_rate": 0.1})
    optuna.create_study(storage=storage, study_name="foreign", direction="maximize")
    assert "'empty' has no trial with a result" in refuse(home, storage, file, "--from", "empty")
    assert "minimizes val_loss, but this one maximizes val_accuracy" in refuse(home, storage, file, "--from", "losses")
    assert "searched units, this one searches learning_rate" in refuse(home, storage, file, "--from", "widths")
    assert "not made from a study file" in refuse(home, storage, file, "--from", "foreign")
    assert "no study 'emptty'. Did you mean 'empty'?" in refuse(home, storage, file, "--from", "emptty")


def test_a_study_cannot_start_from_itself(tmp_path: Path, home: Home, storage: LeasedStorage) -> None:
    make_source(storage, name="toy")
    told = refuse(home, storage, write(tmp_path), "--from", "toy", "--fresh")
    assert "cannot start from itself or from its zooms" in told


def test_a_source_in_an_empty_home_leaves_no_home_behind(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", str(write(tmp_path)), "--from", "x", "--home", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "There is no study database" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_dry_run_says_what_would_be_taken_and_writes_nothing(
    tmp_path: Path, home: Home, storage: LeasedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(storage)
    monkeypatch.setattr("caviar.commands.run.fleet_plan_lines", lambda _spec, _warm: [])
    result = caviar(home, "run", write(tmp_path), "--from", "source", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "warm start from source: tries its trial" in result.stdout
    assert optuna.get_all_study_names(storage) == ["source"]
