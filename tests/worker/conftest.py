"""A small study, and what a worker of it is made of, with trainers that do not train."""

from pathlib import Path

import pytest
from tests.worker.fakes import Made, PairPlan

from caviar import KerasObjective
from caviar.packing.planning import SoloPlan
from caviar.spec import StudySpec, parse_spec
from caviar.storage.checkpoints import CheckpointStore
from caviar.storage.leased_storage import LeasedStorage

SPACE = {
    "learning_rate": {"low": 1e-3, "high": 0.3, "scale": "log"},
    "depth": {"low": 1, "high": 2},
    "units": {"low": 4, "high": 8},
}
EPOCHS = 4


@pytest.fixture(scope="session")
def objective() -> KerasObjective:
    """One objective for all tests: its programs are traced once."""
    return KerasObjective("tests.toy_data:blobs", epochs=EPOCHS, space=SPACE)


@pytest.fixture
def spec() -> StudySpec:
    return parse_spec(
        {
            "name": "toy",
            "data": {"dataset": "tests.toy_data:blobs"},
            "objective": {"epochs": EPOCHS},
            "search": {"trials": 6, "sampler": "random", "pruner": "none"},
            "space": SPACE,
        }
    )


@pytest.fixture
def fleets(storage: LeasedStorage, spec: StudySpec, objective: KerasObjective) -> Made:
    """A worker that trains in fleets of two."""
    return Made(storage, spec, objective, plan=PairPlan())


@pytest.fixture(params=["solo", "fleet"])
def made(request: pytest.FixtureRequest, storage: LeasedStorage, spec: StudySpec, objective: KerasObjective) -> Made:
    """A worker that trains one trial at a time, and one that trains in fleets."""
    return Made(storage, spec, objective, plan=SoloPlan() if request.param == "solo" else PairPlan())


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")
