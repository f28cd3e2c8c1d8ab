"""Code of the user's own, named as ``module:name``: finding it, and turning whatever it raises into a clear error."""

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import CaviarError, SpecError, nearest_name


def import_callable(path: str, *, what: str, takes: Sequence[str] | None = None) -> Callable[..., Any]:
    """Import a function or a class of the user's own, ``package.module:name``, importable from the working directory.

    ``what`` is the setting that names it, for errors: ``objective.network``. ``takes`` has the names of the arguments
    that it will be called with, by position, if they are known. Raises SpecError if the module cannot be imported or
    lacks the name, or if what it has cannot be called like this.
    """
    module_name, _, name = path.partition(":")
    where = f"{what} {path!r}"
    try:
        with users_code(f"{where}: importing its module"):
            here = os.getcwd()  # noqa: PTH109
            if here not in sys.path:
                sys.path.append(here)  # the last, and only now: a file ``random.py`` in it must not hide Python's own
            module = importlib.import_module(module_name)
    except SpecError as error:
        missing = getattr(error.__cause__, "name", None)
        if not isinstance(error.__cause__, ModuleNotFoundError) or missing is None:
            raise
        if f"{module_name}.".startswith(f"{missing}."):
            message = f"there is no module {missing!r}. Put its directory on PYTHONPATH, or install it."
        else:
            message = f"its module needs {missing!r}, which is not installed. Install it."
        raise SpecError(f"{where}: {message}") from error.__cause__
    with users_code(f"{where}: looking it up"):
        found = getattr(module, name, None)
    if not callable(found):
        instead = "" if found is None else f": it is of type {type(found).__name__}"
        raise SpecError(
            f"{where}: the module has no such function{instead}. {nearest_name(name, _functions_of(module))}"
        )
    if takes is not None:
        _check_takes(found, takes, where=where)
    return found  # type: ignore[no-any-return]  # callable, as has just been asked


@contextlib.contextmanager
def users_code(doing: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a SpecError that begins with what was being done.

    Errors of ours pass through, and so does Ctrl-C. ``sys.exit`` does not: it must not end a run without a word.
    """
    try:
        yield
    except CaviarError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"{doing} raised {describe_error(error)}. Mend it there.") from error


def describe_error(error: BaseException) -> str:
    """Return an exception in one line: its type, its message, at most 500 characters, and where it was raised."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    text = text if len(text) <= 500 else f"{text[:499]}…"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename == __file__:
        return text
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _functions_of(module: ModuleType) -> list[str]:
    """Return the names of what a module offers to be called, and has not from elsewhere."""
    package = module.__name__.partition(".")[0]
    own = {key: str(getattr(value, "__module__", "")) for key, value in vars(module).items() if callable(value)}
    return [key for key, home in own.items() if not key.startswith("_") and home.partition(".")[0] == package]


def _check_takes(function: Callable[..., Any], takes: Sequence[str], *, where: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one written in C need not show it
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise SpecError(
            f"{where}: it will be called with ({', '.join(takes)}), but its arguments are {signature}: {error}."
        ) from error
