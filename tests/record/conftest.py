"""MLflow stores and trials for the tests of the mirror."""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from caviar.record import prepare_tracking

START = datetime.datetime(2026, 11, 22, 12, 0, 0)  # noqa: DTZ001  (Optuna's times are naive and local)

MakeTrial = Callable[..., FrozenTrial]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without a run, made once: its schema takes two seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    prepare_tracking(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracking_uri(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture
def make_trial() -> MakeTrial:
    return build_trial


def build_trial(
    number: int = 0,
    *,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    user_attrs: dict[str, Any] | None = None,
) -> FrozenTrial:
    if value is None and state in (TrialState.COMPLETE, TrialState.PRUNED):
        value = 0.9
    trial = optuna.trial.create_trial(
        state=state,
        value=value,
        params={"learning_rate": 0.01, "one_minus_momentum": 0.1, "depth": 2, "batch_norm": "none"},
        distributions={
            "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
            "one_minus_momentum": FloatDistribution(1e-3, 0.5, log=True),
            "depth": IntDistribution(1, 4),
            "batch_norm": CategoricalDistribution(["none", "before_activation"]),
        },
        user_attrs=user_attrs or {},
    )
    trial.number = number
    trial.datetime_start = START + datetime.timedelta(minutes=number) if state != TrialState.WAITING else None
    trial.datetime_complete = START + datetime.timedelta(minutes=number, seconds=10) if state.is_finished() else None
    return trial
