"""Empty databases: made once for a user, which takes from a third of a second to three, and copied from then on."""

import logging
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from ..atomic_write import written_whole
from ..errors import StorageError
from ..user_cache import load_kept, remove_unused, sealed, user_cache

_logger = logging.getLogger(__name__)
_MakeDatabase = Callable[[Path], object]  # in a file that is not there, with its log emptied into it


def keep_template(name: str, make: _MakeDatabase) -> bytes | None:
    """Return an empty database of the user's cache, made where there is none; None where none can be kept.

    Its file's name tells all that the tables depend on.
    """
    path = user_cache() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            template = load_kept(path)
            if template is None:
                remove_unused(path.parent, "*.db")
                with written_whole(path) as beside:
                    make(beside)
                    template = beside.read_bytes()  # nobody has it open
                    beside.write_bytes(sealed(template))
    except (OSError, StorageError) as error:  # a full disk: there may be room in the home
        _logger.debug("An empty database could not be kept in %s: %s", path, error)
        return None
    return template


def create_from_template(path: Path, name: str, make: _MakeDatabase) -> None:
    """Copy a template to a file, whole or not at all; the caller holds the lock on its creation.

    Raises:
        OSError: If it cannot be written.
    """
    template = keep_template(name, make)
    with written_whole(path) as beside:
        if template is None:
            make(beside)
        else:
            beside.write_bytes(template)
