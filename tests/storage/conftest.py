"""Studies on every database that is supported."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from tests.databases import BACKENDS, SERVER, fresh_postgresql

from caviar.spec import StudySpec
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.studies import create_study


@pytest.fixture(params=BACKENDS)
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own, on PostgreSQL too where there is a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'optuna.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    if not SERVER:
        pytest.skip("CAVIAR_TEST_POSTGRESQL names no server (postgresql+psycopg://user@host/postgres)")
    with fresh_postgresql() as url:
        yield url


@pytest.fixture
def study(storage: LeasedStorage, spec: StudySpec) -> optuna.Study:
    return create_study(storage, spec, attributes={})
