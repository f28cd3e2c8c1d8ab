"""Where champions stand: each in a directory below the home, or in a store that fsspec reaches.

In a store, a champion's files stand in a directory named by the digest of its description, and the description beside
that directory is written last: one request replaces a champion by another.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import StorageError
from ..storage.places import Place, address_of
from ..storage.remote import RemotePath
from ..user_cache import user_cache
from .saved import DESCRIPTION

_TRIES: Final = 3  # a champion may be replaced while it is fetched


@contextlib.contextmanager
def champion_workshop(place: Place) -> Iterator[Path]:
    """Give a local directory in which a champion is written: its place itself, or one that `publish` copies there."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="caviar-") as directory:
        yield Path(directory) / place.name


def publish(directory: Path, place: Place) -> None:
    """Copy a champion's directory to its place, whole or not at all, in place of an earlier one.

    Raises:
        StorageError: If a store elsewhere does not take it.
    """
    if isinstance(place, Path):
        return
    description = (directory / DESCRIPTION).read_bytes()
    version = _version(description)
    try:
        before = place.names()
        for file in sorted(directory.iterdir()):
            (place / version / file.name).upload(file)
        (place / DESCRIPTION).write_bytes(description)
        for name in before:
            if name not in (version, DESCRIPTION):
                (place / name).remove_tree()
    except OSError as error:
        raise StorageError(f"The champion {place} cannot be written: {error.strerror}.") from error


def champion_directory(place: Place) -> Path:
    """Return a champion's local directory: its place, or a copy in the user's cache, made if it is missing there.

    Raises:
        StorageError: If there is no champion in a store elsewhere, or it cannot be read.
    """
    if isinstance(place, Path):
        return place
    for _ in range(_TRIES):
        try:
            version = _version((place / DESCRIPTION).read_bytes())
        except FileNotFoundError as error:
            raise StorageError(
                f"There is no champion in {str(place)!r}: it has no {DESCRIPTION}. `caviar champion STUDY` makes one."
            ) from error
        except OSError as error:
            raise StorageError(f"The champion in {str(place)!r} cannot be read: {error.strerror}.") from error
        kept = user_cache() / "champions" / f"{version}-{_version(address_of(place).encode())}"
        if kept.is_dir():
            return kept
        with contextlib.suppress(FileNotFoundError):  # another champion has just taken its place
            return _fetch(place / version, kept)
    raise StorageError(f"The champion in {str(place)!r} is damaged: its files are missing. Make it anew.")


def read_description(champions: Place, study: str) -> dict[str, Any]:
    """Return what the ``champion.json`` of a study's champion says.

    Raises:
        FileNotFoundError: If there is no champion.
        OSError, ValueError: If it cannot be read.
    """
    if Path(study).name != study:  # Optuna lets a study be called like a file elsewhere
        raise FileNotFoundError(study)
    table: dict[str, Any] = json.loads((champions / study / DESCRIPTION).read_bytes())
    return table


def champion_names(place: Place) -> list[str]:
    """Return the names of the champions that stand in a directory, sorted; a store may name some that are none."""
    if isinstance(place, RemotePath):
        return place.names()
    return sorted(path.parent.name for path in place.glob(f"*/{DESCRIPTION}"))


def _fetch(place: RemotePath, kept: Path) -> Path:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=kept.parent) as directory:
        beside = Path(directory) / kept.name
        beside.mkdir()
        names = place.names()
        if DESCRIPTION not in names:
            raise FileNotFoundError(str(place))
        try:
            for name in names:
                (beside / name).write_bytes((place / name).read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"The champion in {str(place)!r} cannot be read: {error.strerror}.") from error
        with contextlib.suppress(OSError):  # another process was faster
            beside.rename(kept)
        if not kept.is_dir():  # nothing may be kept there
            shutil.copytree(beside, kept)
    return kept


def _version(description: bytes) -> str:
    return hashlib.sha256(description).hexdigest()[:24]
