"""Files in a store that fsspec reaches: an object store, another machine's disk, or this process' memory.

What a store does not answer in time is given up, and what failed slowly is not tried again for a while: whoever trains
networks must not wait for a store that is away.
"""

import dataclasses
import errno
import functools
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

from .addresses import masked, reason_of

_Result = TypeVar("_Result")

#: Seconds that a store has for one answer, and for each further megabyte that is sent or fetched.
ANSWER_S: Final = 15.0
_MEGABYTE_S: Final = 1.0
#: What fails after more seconds than this is not tried again for some time, so that training goes on.
_SLOW_S: Final = 2.0
#: That time. With `ANSWER_S` it bounds what a hanging store costs: an eighth of the time.
_REST_S: Final = 105.0
#: Stores in which a file appears whole with one request; elsewhere it is written beside its place and moved there.
_WHOLE: Final = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "r2", "oci", "tos"})


class StoreError(OSError):
    """A store did not do what it was asked; ``strerror`` says why."""


class StoreRestsError(StoreError):
    """A store that failed slowly a short while ago is not asked again yet."""


@dataclasses.dataclass(frozen=True)
class RemotePath:
    """A file or a directory in a store, as far as caviar needs one.

    What fails raises `StoreError`, without secrets, or FileNotFoundError. It can be sent to other processes; each opens
    a connection of its own.

    Args:
        url: Its address, ``protocol://…``, without a slash at the end. It may hold a password, which ``str`` masks.
        root: The address of the store's part that is used, with which a connection is opened.
    """

    url: str = dataclasses.field(repr=False)
    root: str = dataclasses.field(repr=False)

    def __truediv__(self, name: str) -> "RemotePath":
        # fsspec takes some characters for a pattern: what removes one study's files must not reach another's.
        plain = re.sub(r"[*?#%\[\]]", lambda found: quote(found[0]), name)
        return RemotePath(f"{self.url}/{plain}", self.root)

    def __str__(self) -> str:
        return masked(self.url)

    @property
    def name(self) -> str:
        """The last part."""
        return unquote(self.url.rpartition("/")[2])

    def exists(self) -> bool:
        """Tell whether a file, or one below it, is there."""
        try:
            self._ask(lambda fs, path: fs.info(path))
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """Return the names of what stands directly below it, sorted; none if it is missing."""
        try:
            found = self._ask(lambda fs, path: (path, fs.ls(path, detail=False)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        here, paths = found
        names = {
            unquote(str(path).rstrip("/").rpartition("/")[2])
            for path in paths
            if str(path).strip("/") != here.strip("/")
        }
        return sorted(names)

    def read_bytes(self) -> bytes:
        """Return a file's contents."""
        return bytes(self._ask(lambda fs, path: fs.cat_file(path), seconds=10 * ANSWER_S))

    def write_bytes(self, content: bytes) -> None:
        """Write a file, whole or not at all, in place of an earlier one."""
        self._place(lambda fs, path: fs.pipe_file(path, content), n_bytes=len(content))

    def upload(self, file: Path) -> None:
        """Write a copy of a local file, whole or not at all, in place of an earlier one."""
        self._place(lambda fs, path: fs.put_file(str(file), path), n_bytes=file.stat().st_size)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            self._ask(lambda fs, path: fs.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Remove a directory with all that is in it; a missing one is left alone."""
        try:
            self._ask(lambda fs, path: fs.rm(path, recursive=True), seconds=10 * ANSWER_S)
        except FileNotFoundError:
            return

    def rename(self, to: "RemotePath") -> None:
        """Move a file, or a directory with all that is in it. Stores copy: if that is interrupted, both remain."""

        def move(fs: Any, path: str) -> None:
            _, target = _opened(to.url)
            for found in fs.find(path) or [path]:
                copy = target + found[len(path) :]
                if _protocol(self.root) not in _WHOLE:
                    fs.makedirs(copy.rpartition("/")[0], exist_ok=True)
                fs.cp_file(found, copy)
            fs.rm(path, recursive=True)

        self._ask(move, seconds=20 * ANSWER_S)

    def _place(self, write: Callable[[Any, str], object], *, n_bytes: int) -> None:
        def whole(fs: Any, path: str) -> None:
            if _protocol(self.root) in _WHOLE:
                write(fs, path)
                return
            directory, _, name = path.rpartition("/")
            fs.makedirs(directory, exist_ok=True)
            beside = f"{directory}/.{name}~{secrets.token_hex(4)}"
            try:
                write(fs, beside)
                fs.mv(beside, path)
            except BaseException:
                if fs.exists(beside):
                    fs.rm_file(beside)
                raise

        self._ask(whole, seconds=ANSWER_S + _MEGABYTE_S * n_bytes / 1e6)

    def _ask(self, function: Callable[[Any, str], _Result], *, seconds: float = ANSWER_S) -> _Result:
        """Call a function with the file system and this path in it."""

        def ask() -> _Result:
            fs, path = _opened(self.url)
            fs.invalidate_cache()  # other processes write there too
            return function(fs, path)

        return _connection(self.root, os.getpid()).call(ask, seconds=seconds, subject=str(self))


class _Connection:
    """What one process knows of how a store answers.

    Args:
        clock: Seconds, from anywhere on.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests_until = 0.0
        self._reason = ""

    def call(self, function: Callable[[], _Result], *, seconds: float, subject: str) -> _Result:
        """Return what a function returns if it does so in time.

        Raises:
            FileNotFoundError: If it raises that.
            StoreError: If it raises anything else, or takes longer.
            StoreRestsError: If something failed slowly a short while ago.
        """
        if self._clock() < self._rests_until:
            raise StoreRestsError(errno.EIO, f"{self._reason}; it is tried again later", subject)
        began, outcome = self._clock(), _Outcome()
        thread = threading.Thread(target=outcome.of, args=(function,), daemon=True, name="caviar files")
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._rest(f"no answer within {seconds:.0f} s")
            raise StoreError(errno.EIO, self._reason, subject)
        error = outcome.error
        if error is None:
            return outcome.result  # type: ignore[no-any-return]  # what the function returned
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such file, directory or bucket", subject) from error
        if isinstance(error, NotADirectoryError):
            raise NotADirectoryError(errno.ENOTDIR, "it is a file", subject) from error
        reason = masked(error.strerror) if isinstance(error, OSError) and error.strerror else reason_of(error)
        if self._clock() - began > _SLOW_S:
            self._rest(reason)
        raise StoreError(errno.EIO, reason.rstrip("."), subject) from error

    def _rest(self, reason: str) -> None:
        self._rests_until, self._reason = self._clock() + _REST_S, reason.rstrip(".")


class _Outcome:
    """What a function in a thread returned or raised."""

    result: Any = None
    error: Exception | None = None

    def of(self, function: Callable[[], object]) -> None:
        """Call the function."""
        try:
            self.result = function()
        except Exception as error:  # noqa: BLE001  each store's package has exceptions of its own
            self.error = error


@functools.lru_cache(maxsize=16)
def _connection(_root: str, _process: int) -> _Connection:
    return _Connection()


def _opened(url: str) -> tuple[Any, str]:
    """Return fsspec's file system, which it keeps open, and the path in it; credentials are its package's business."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url)
    return fs, str(path)


def _protocol(url: str) -> str:
    return url.partition("://")[0].lower()
