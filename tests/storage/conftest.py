"""Studies on every database that is supported."""

import optuna
import pytest
from tests.databases import DATABASES

from caviar.spec import StudySpec
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "storage_url" in metafunc.fixturenames:
        metafunc.parametrize("storage_url", DATABASES, indirect=True)


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec) -> optuna.Study:
    return create_study(storage, spec, attributes={})
