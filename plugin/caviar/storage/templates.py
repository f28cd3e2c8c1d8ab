"""Empty databases: made once for a user, which takes from a third of a second to three, and copied from then on."""

import functools
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import StorageError
from ..user_cache import user_cache
from .home import file_lock

_logger = logging.getLogger(__name__)

#: Makes an SQLite database in a file that is not there, with its log emptied into it.
MakeDatabase = Callable[[Path], object]


def keep_template(name: str, make: MakeDatabase) -> Path | None:
    """Return an empty database of the user's cache, made where there is none; None where none can be kept.

    Args:
        name: Its file's; it tells the version of whose tables it has.
        make: Makes it.
    """
    path = user_cache() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_name(path.name + ".lock")):
            if not path.exists():
                _appear(path, make)
    except (OSError, StorageError) as error:  # a full disk: there may be room in the home
        _logger.debug("An empty database could not be kept in %s: %s", path, error)
        return None
    return path


def create_from_template(path: Path, name: str, make: MakeDatabase) -> None:
    """Put an empty database there, whole or not at all; the caller holds the lock on its creation.

    Args:
        path: Its file.
        name: The template's, as `keep_template` has it.
        make: Makes it.

    Raises:
        OSError: If it cannot be written.
    """
    template = keep_template(name, make)
    _appear(path, make if template is None else functools.partial(shutil.copyfile, template))


def _appear(path: Path, make: MakeDatabase) -> None:
    """Make a file beside its place and move it there, so that nobody ever opens half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        make(beside)
        with beside.open("rb+") as file:  # nobody has it open, nor what it was copied from
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        for leftover in path.parent.glob(f"{beside.name}*"):
            leftover.unlink(missing_ok=True)
