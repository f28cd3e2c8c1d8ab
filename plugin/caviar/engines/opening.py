"""Opening the engine that a study file or the command line names."""

from contextlib import AbstractContextManager
from typing import Any

from ..spec import SearchSpec
from ..storage.home import Home
from .engine import Engine
from .processes import ProcessEngine


def open_engine(search: SearchSpec, home: Home) -> AbstractContextManager[Engine[Any]]:
    """Return the engine of a study, to be entered.

    Raises:
        CaviarError: On entering, if Ray is not installed, its cluster cannot be joined, or its hosts cannot share the
            study's storage.
    """
    if search.engine == "processes":
        return ProcessEngine(home)
    from .ray_engine import RayEngine

    return RayEngine(search, home)
