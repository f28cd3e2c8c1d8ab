"""The exceptions that optuna-caviar raises on purpose.

Every message says what was wrong, what was received, what is allowed and what to do.
"""

import difflib
from collections.abc import Iterable

_MANY_NAMES = 20
_LONG_NAME = 100  # more of it would only take time to compare


class CaviarError(Exception):
    """Base of all errors raised on purpose; its message is meant for the user, without a traceback."""

    exit_code = 1  # what the command line exits with: 2 when the user's input is at fault, 1 when not


class SpecError(CaviarError):
    """A study file, an option or an argument is not allowed."""

    exit_code = 2


class SpaceError(SpecError):
    """A search space, or a value drawn from it, is not allowed."""


class DataError(CaviarError):
    """A data set is unknown, not prepared, or not fit for classification."""

    exit_code = 2


class StorageError(CaviarError):
    """The study's database or the home directory cannot be used."""

    exit_code = 2


class StorageUnavailableError(StorageError):
    """The study's database is the right one, but cannot be written now: full, locked or out of reach."""

    exit_code = 1


class UnknownStudyError(StorageError):
    """The database has no study of this name."""


class TrialFailed(CaviarError):  # noqa: N818  (a state of a trial, named as the state is)
    """One trial cannot go on; the worker takes the next one."""


class FatalError(CaviarError):
    """The worker must stop; what is done is kept."""


def nearest_name(name: str, allowed: Iterable[str]) -> str:
    """Return the hint that ends an error about an unknown name, with the first twenty names that exist.

    Example:
        >>> nearest_name("tpee", ("random", "tpe"))
        "Did you mean 'tpe'? Allowed: random, tpe."
    """
    names = list(allowed)
    if not names:
        return "There is none."
    near = difflib.get_close_matches(name[:_LONG_NAME], [other for other in names if other != name], n=1, cutoff=0.6)
    question = f"Did you mean {near[0]!r}? " if near else ""
    more = f" and {len(names) - _MANY_NAMES} more" if len(names) > _MANY_NAMES else ""
    return f"{question}Allowed: {', '.join(names[:_MANY_NAMES])}{more}."


def ends_worker(error: Exception) -> bool:
    """Tell whether an error is about the whole study; any other costs no more than the trial that raised it."""
    return isinstance(error, (SpecError, FatalError)) and not isinstance(error, SpaceError)
