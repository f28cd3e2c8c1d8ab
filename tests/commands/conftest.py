"""A home that is ready, and its storage."""

from pathlib import Path

import pytest

from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home, locate_home
from caviar.storage.leased_storage import LeasedStorage


@pytest.fixture
def home(prepared_home: Path) -> Home:
    return locate_home(prepared_home)


@pytest.fixture
def storage(home: Home) -> LeasedStorage:
    return open_storage(home.storage, owner=new_owner(), create=True)
