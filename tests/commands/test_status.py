"""What status says of the best trial's network."""

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution

from caviar.attributes import NETWORK_LOST
from caviar.commands.status import status_lines, study_status
from caviar.spec import StudySpec
from caviar.storage.home import Home
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec) -> optuna.Study:
    return create_study(storage, spec, attributes={})


def add_trial(study: optuna.Study, value: float, **attributes: object) -> None:
    ranges: dict[str, BaseDistribution] = {"learning_rate": FloatDistribution(1e-4, 1.0, log=True)}
    study.add_trial(
        optuna.create_trial(value=value, params={"learning_rate": 0.1}, distributions=ranges, user_attrs=attributes)
    )


def network_line(home: Home) -> str:
    (line,) = [line for line in status_lines(study_status(home, "toy")) if line.startswith(("network", "no network"))]
    return line


def test_the_best_network_is_shown_and_of_equal_trials_the_first(home: Home, study: optuna.Study) -> None:
    add_trial(study, 0.9)
    add_trial(study, 0.9)
    path = home.path / "networks" / "toy" / "0.keras"
    assert network_line(home) == f"no network: {path} was removed, or the trial was not run with this home"
    path.parent.mkdir(parents=True)
    path.touch()
    assert network_line(home) == f"network {path}"
    assert study_status(home, "toy")["best"]["network_missing"] is None


def test_why_the_best_network_was_lost_is_said(home: Home, study: optuna.Study) -> None:
    add_trial(study, 0.8)
    add_trial(study, 0.9, **{NETWORK_LOST: "OSError: [Errno 28] No space left on device"})
    assert network_line(home) == "no network: it could not be saved: OSError: [Errno 28] No space left on device"
    assert study_status(home, "toy")["best"]["network"] is None
