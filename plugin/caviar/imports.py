"""Finding what a study file names as ``package.module:name``."""

import importlib
from typing import Any

from .errors import SpecError


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
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SpecError(
            f"{what} names {path!r}, but {module_name!r} cannot be imported: {error}. "
            "Install it, or add its directory to PYTHONPATH."
        ) from error
    if not hasattr(module, name):
        raise SpecError(f"{what} names {path!r}, but the module {module_name!r} has no {name!r}.")
    return getattr(module, name)
