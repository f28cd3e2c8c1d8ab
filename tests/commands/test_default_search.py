"""The default search, sampler `zoom` with the pruner `promotion`, from a study file to its report."""

import json
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner, Result

from caviar.attributes import STAGES
from caviar.cli import main
from caviar.storage.home import locate_home

TOY = """
name = "toy"
data = { dataset = "tests.toy_data:blobs" }
objective = { epochs = 4 }
search = { trials = 16 }
[space]
learning_rate = { low = 1e-4, high = 0.5, scale = "log" }
momentum = { low = 0.5, high = 0.99, scale = "log-complement" }
batch_size = { choices = [32, 64] }
depth = 1
units = 8
"""


def caviar(home: Path, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--home", str(home)])
    assert result.exit_code == 0, result.output
    return result


def opened(home: Path) -> optuna.Study:
    return optuna.load_study(study_name="toy", storage=locate_home(home).storage)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["fleet", "solo"])
def test_a_file_that_names_no_sampler_is_searched_in_stages_that_a_larger_budget_does_not_move(
    trainer: str, tmp_path: Path, prepared_home: Path
) -> None:
    file = tmp_path / "toy.toml"
    file.write_text(TOY)
    caviar(prepared_home, "run", file, "--trainer", trainer)
    study = opened(prepared_home)
    assert json.loads(study.user_attrs[STAGES]) == {"begins": [10], "trials": 16}
    caviar(prepared_home, "run", file, "--trainer", trainer, "--trials", "26")
    study = opened(prepared_home)
    assert json.loads(study.user_attrs[STAGES]) == {"begins": [10, 19], "trials": 26}
    assert len(study.trials) == 26
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    assert len({json.dumps(sorted(map(repr, trial.distributions.items()))) for trial in study.trials}) == 1
    said = json.loads(caviar(prepared_home, "report", "toy", "--json").stdout)
    zooms = json.loads(Path(said["json"]).read_text())["zooms"]
    assert [zoom["name"] for zoom in zooms] == ["toy, stage 1", "toy, stage 2", "toy, stage 3"]
