"""Where files stand: in a directory of this machine, or in a store that fsspec reaches; and what is done with both.

A local path never passes through fsspec: checkpoints are written every few seconds.
"""

import contextlib
import importlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from ..atomic_write import write_whole, written_whole
from ..errors import StorageError, nearest_name
from .addresses import masked
from .remote import RemotePath

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_PROTOCOLS: Final = ("file", "s3", "gs", "az", "abfs", "oss", "hdfs", "sftp", "smb", "webdav")

#: A file or a directory, here or elsewhere.
Place = Path | RemotePath


def parse_files(address: str) -> Place:
    """Return what ``--files`` names: a directory, ``file://…``, or the address of a store, sound or not.

    Raises:
        StorageError: If it is no address of a directory.
    """
    protocol, separator, rest = address.partition("://")
    if not separator:
        if address.startswith("file:"):
            return Path(unquote(address.removeprefix("file:"))).absolute()
        return Path(address).absolute()
    if protocol in ("file", "local"):
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StorageError(f"--files {masked(address)!r} must be file:///DIRECTORY, with three slashes.")
        return Path(unquote(parts.path)).absolute()
    if "::" in protocol or set("*?[]#").intersection(rest) or (not rest.strip("/") and protocol != "memory"):
        raise StorageError(
            f"--files {masked(address)!r} must be one address with a bucket or a host, such as s3://bucket/directory, "
            "without '::' and without any of *?[]#."
        )
    url = address.rstrip("/") if rest.strip("/") else f"{protocol}://caviar"
    return RemotePath(url, url)


def address_of(place: Place) -> str:
    """Return what `parse_files` reads as this place. It may hold a password."""
    return str(place) if isinstance(place, Path) else place.url


def check_reachable(place: Place) -> None:
    """Check that the package for a store's protocol is there; the store itself is not asked.

    Raises:
        StorageError: If fsspec knows no such protocol, or its package is not installed; says what to do.
    """
    if isinstance(place, Path):
        return
    from fsspec import available_protocols, get_filesystem_class
    from fsspec.registry import known_implementations

    protocol = place.root.partition("://")[0]
    if protocol not in available_protocols():
        raise StorageError(
            f"--files {str(place)!r}: fsspec knows no protocol {protocol!r}. {nearest_name(protocol, _PROTOCOLS)} "
            "fsspec.available_protocols() has them all. Or give a directory."
        )
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("err") or str(error)
        extra = " (pip install 'optuna-caviar[s3]')" if protocol in ("s3", "s3a") else ""
        raise StorageError(
            f"--files {str(place)!r} needs a package that is not installed here. {package.rstrip('.')}{extra}."
        ) from error


def check_writable(place: RemotePath) -> None:
    """Write a small file into a store, and remove it.

    Raises:
        StorageError: If it cannot be written.
    """
    import secrets

    probe = place / f".caviar-probe-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"optuna-caviar")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{place} cannot be written: {error.strerror}. Correct --files or CAVIAR_FILES; credentials are read where "
            "the protocol's own package looks for them, such as its environment variables."
        ) from error


def write_at(place: Place, content: bytes | str) -> None:
    """Write a file, whole or not at all, texts in UTF-8; raises OSError if it cannot be written."""
    if isinstance(place, Path):
        write_whole(place, content)
    else:
        place.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def written_at(place: Place) -> Iterator[Path]:
    """Give a local path of the same name to write to; what stands there replaces the place when the block ends."""
    if isinstance(place, Path):
        with written_whole(place) as beside:
            yield beside
        return
    with tempfile.TemporaryDirectory(prefix="caviar-") as directory:
        file = Path(directory) / place.name
        yield file
        place.upload(file)


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """Give a file of this machine: the place itself, or a copy for as long as the block runs."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="caviar-") as directory:
        file = Path(directory) / place.name
        file.write_bytes(place.read_bytes())
        yield file


def remove_tree(place: Place) -> None:
    """Remove a directory with all that is in it. A store that does not let it raises OSError."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.remove_tree()


def rename(place: Place, to: Place) -> None:
    """Move a file or a directory to another name in the same store."""
    if isinstance(place, Path):
        assert isinstance(to, Path)
        place.rename(to)
    else:
        assert isinstance(to, RemotePath)
        place.rename(to)


def artifact_store(place: Place) -> "ArtifactStore":
    """Return optuna-dashboard's store of artifacts at a place; a missing directory is created."""
    if isinstance(place, RemotePath):
        return RemoteArtifacts(place)
    from optuna.artifacts import FileSystemArtifactStore

    place.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(base_path=place)


class RemoteArtifacts:
    """Artifacts in a store that fsspec reaches, with what Optuna asks of an artifact store."""

    def __init__(self, place: RemotePath) -> None:
        self._place = place

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact's contents."""
        import io

        try:
            return io.BytesIO((self._place / artifact_id).read_bytes())
        except FileNotFoundError as error:
            raise _artifact_not_found()(f"Artifact storage with id {artifact_id} not found.") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact."""
        (self._place / artifact_id).write_bytes(content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact."""
        try:
            (self._place / artifact_id).unlink()
        except FileNotFoundError as error:
            raise _artifact_not_found()(f"Artifact storage with id {artifact_id} not found.") from error


def _artifact_not_found() -> Any:
    return importlib.import_module("optuna.artifacts.exceptions").ArtifactNotFound
