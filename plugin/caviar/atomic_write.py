"""Files that appear whole or not at all: made beside their place, flushed to the disk, and moved there.

What a killed process leaves behind is removed when a file is next written in that directory, and by `doctor --fix`.
"""

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: A directory whose name begins with this holds a file that is being written; host and process follow, so that what a
#: killed process left is told from what a living one writes.
_MARK: Final = ".caviar-writes"
_OTHER_HOST_S: Final = 86_400.0  # then what another host wrote is left behind: its processes cannot be seen here


@contextlib.contextmanager
def written_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a path of the same name to write to; what stands there replaces the file when the block ends.

    Missing directories are created. If the block raises, the file stays as it was and nothing is left, whatever was
    written beside the given path. Once the block has ended, a ``durable`` file survives a power cut.
    """
    for leftover in leftovers(path.parent):
        shutil.rmtree(leftover, ignore_errors=True)
    directory = path.parent / "~".join([_MARK, socket.gethostname(), str(os.getpid()), secrets.token_hex(4)])
    directory.mkdir(parents=True)
    try:
        yield directory / path.name
        if durable:
            _flush(directory / path.name)
        (directory / path.name).replace(path)
        if durable:
            with contextlib.suppress(OSError):  # not every file system can flush a directory
                _flush(path.parent)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_whole(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file as `written_whole` does, texts in UTF-8."""
    with written_whole(path, durable=durable) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def leftovers(directory: Path, *, below: bool = False) -> list[Path]:
    """Return what killed processes left of files they were writing in a directory, or in all ``below`` it too."""
    pattern = f"{'**/' if below else ''}{_MARK}~*~*~*"
    with contextlib.suppress(OSError):  # gone, or not to be read
        return [path for path in directory.glob(pattern) if _is_left(path)]
    return []


def _is_left(path: Path) -> bool:
    _, host, process, _ = path.name.split("~")
    if host != socket.gethostname():
        return time.time() - path.stat().st_mtime > _OTHER_HOST_S
    import psutil

    return not psutil.pid_exists(int(process))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
