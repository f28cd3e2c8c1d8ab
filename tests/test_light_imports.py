"""Importing TensorFlow takes seconds and MLflow more than one: what needs neither must not pay for them."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("tensorflow", "keras", "mlflow", "scipy.stats", "sklearn", "tensorflow_datasets")
#: What each worker of a search by zoom does: with scipy.stats it would take 0.7 s more.
NARROWS = """
from caviar.parameters import ChoiceParameter
from caviar.search.narrowing import narrow_choices
parameter = ChoiceParameter(name="batch_size", choices=(32, 64))
assert narrow_choices(parameter, [32] * 5, [64] * 20, doubt=0.05).share == 0.5
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import caviar",
        "import caviar; caviar.KerasObjective, caviar.read_spec, caviar.load_dataset, caviar.ZoomSampler",
        "from caviar.cli import main; main(['--help'], standalone_mode=False)",
        "import caviar.commands.run, caviar.commands.check, caviar.commands.status, caviar.commands.report",
        "import caviar.commands.compare",
        NARROWS,
    ],
)
def test_the_library_and_help_load_nothing_heavy(code: str) -> None:
    loaded = run(f"import sys\n{code}\nprint('loaded:', *sorted(set(sys.modules) & set({HEAVY})))")
    assert loaded.rpartition("loaded:")[2].strip() == ""


def test_status_and_trials_load_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys
from caviar.commands.status import study_status
from caviar.commands.status import list_trials
from caviar.spec import parse_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study
from pathlib import Path
home = locate_home(Path({str(tmp_path)!r}))
storage = open_storage(home.storage, owner=new_owner(), create=True)
create_study(storage, parse_spec({{"name": "toy", "data": {{"dataset": "digits"}}}}), attributes={{}})
assert study_status(home, "toy")["trials"]["complete"] == 0
assert list_trials(home, "toy") == []
print('loaded:', *sorted(set(sys.modules) & set({HEAVY})))
"""
    assert run(code).rpartition("loaded:")[2].strip() == ""


def test_the_public_names_are_there() -> None:
    import caviar

    assert all(getattr(caviar, name) is not None for name in caviar.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = caviar.nothing
