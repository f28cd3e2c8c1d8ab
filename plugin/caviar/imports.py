"""Finding what a study file names as ``package.module:name``."""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from .errors import SpecError


def import_module(name: str) -> ModuleType:
    """Import a module of the user's own, which may stand where the program runs.

    That directory comes last on the path, and only once a module is named: a file ``random.py`` in it must not pass
    for Python's own.

    Raises:
        ImportError: And whatever the module raises.
    """
    here = os.getcwd()  # noqa: PTH109
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)


def import_object(path: str, *, what: str) -> Any:
    """Import an object of the user's own.

    Args:
        path: ``package.module:name``, importable from where the program runs.
        what: What it is for, to name it in an error: ``objective.network``.

    Raises:
        SpecError: If the module or the name cannot be imported.
    """
    module_name, _, name = path.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise SpecError(
            f"{what} names {path!r}, but {module_name!r} cannot be imported: {error}. "
            "Install it, or add its directory to PYTHONPATH."
        ) from error
    if not hasattr(module, name):
        where = getattr(module, "__file__", None) or "built in"  # another module of this name may stand first
        raise SpecError(f"{what} names {path!r}, but {module_name!r} has no {name!r}: it is {where}.")
    return getattr(module, name)
