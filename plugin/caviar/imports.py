"""Finding what a study file names as ``package.module:name``."""

import importlib
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import SpecError


def import_module(name: str) -> ModuleType:
    """Import a module of the user's own, from where the program runs if it is nowhere else.

    The present directory comes behind the standard library, and only from the first such import on: a file there that
    is called ``random.py`` must stop nothing.
    """
    here = str(Path.cwd())
    if not {here, ""} & set(sys.path):
        standard = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        last = max((place for place, entry in enumerate(sys.path) if _is_below(entry, standard)), default=-1)
        sys.path.insert(last + 1, here)
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
        raise SpecError(
            f"{what} names {path!r}, but the module {module_name!r} ({getattr(module, '__file__', 'built in')}) "
            f"has no {name!r}."
        )
    return getattr(module, name)


def _is_below(entry: str, standard: list[str]) -> bool:
    return any(entry in (place, f"{place}/lib-dynload") for place in standard)
