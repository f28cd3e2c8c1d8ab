"""What the tests of the service share: a home, and an app that serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.storage.home import locate_home

from .asgi import AppClient, calling


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(home=locate_home(tmp_path / "runs"))


@pytest.fixture
def client(settings: ServiceSettings) -> Iterator[AppClient]:
    with calling(make_app(settings)) as client:
        yield client
