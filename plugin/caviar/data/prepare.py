"""Preparing TFDS data sets: what cannot work fails within seconds, and one process does the work."""

import contextlib
import io
import logging
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock

from ..errors import DataError
from ..imports import describe_error
from .names import FileName, TfdsName, data_root, find_prepared, is_prepared, parse_name
from .network import unreachable_hosts
from .registry import create_builder
from .tfds_private import is_in_cache

_logger = logging.getLogger(__name__)


def prepare_dataset(
    name: str, *, data_dir: Path | None = None, manual_dir: Path | None = None, force: bool = False
) -> Path:
    """Prepare a TFDS data set, unless it is prepared, and return its directory.

    If several processes want the same data set at once, one prepares it and the others wait.

    Args:
        name: A TFDS name: ``digits``, ``emnist/letters``, ``mnist:3.0.1``. The directory of a prepared data set is
            returned as it is.
        data_dir: Where TFDS keeps data sets; by default ``TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.
        manual_dir: Directory of files that you downloaded, under the names that they have on their server. TFDS checks
            their checksums. By default ``<data_dir>/downloads/manual``.
        force: Whether to prepare it again if it is prepared; the old one stays until the new one is complete.

    Raises:
        DataError: If the name is unknown, its files cannot be downloaded, ``data_dir`` cannot be written to, or the
            data set's builder fails.

    Example:
        >>> prepare_dataset("fashion_mnist", manual_dir=Path("downloads/fashion_mnist"))  # doctest: +SKIP
    """
    parsed = parse_name(name)
    if isinstance(parsed, FileName) and parsed.kind == "prepared":
        return parsed.path
    if not isinstance(parsed, TfdsName):
        raise DataError(f"{name!r} is no data set of TFDS, and needs no preparing. Use it as it is.")
    root = data_root(data_dir)
    manual_dir = manual_dir and manual_dir.expanduser()
    if not force and (found := find_prepared(parsed, root)):
        return found
    builder = create_builder(parsed, root)
    _check_files(parsed, builder, root, manual_dir)
    directory = Path(builder.data_dir)
    with _only_one(parsed, root):
        if force:
            with _kept_until_replaced(directory):
                _prepare(parsed, create_builder(parsed, root), root, manual_dir)
        elif not is_prepared(directory):  # the process that held the lock may have
            _prepare(parsed, builder, root, manual_dir)
    return directory


def _check_files(name: TfdsName, builder: Any, root: Path, manual_dir: Path | None) -> None:
    """Raise DataError if files are missing that cannot be downloaded.

    TFDS lists the files of all configs together. So this may refuse a config that needs only files that are here; to
    try would take minutes to fail.
    """
    from_hand = manual_dir or root / "downloads" / "manual"
    if manual_dir is not None and not manual_dir.is_dir():
        raise DataError(f"Data set '{name}' was to be prepared from {str(manual_dir)!r}, but that is no directory.")
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not from_hand.is_dir():
        raise DataError(
            f"Data set '{name}' must be downloaded by hand, but there is no directory {str(from_hand)!r}."
            f" Its builder says: {' '.join(str(builder.MANUAL_DOWNLOAD_INSTRUCTIONS).split())}"
        )
    missing = _missing_urls(builder, root / "downloads", from_hand)
    if hosts := unreachable_hosts(missing) if missing else []:
        raise DataError(
            f"Data set '{name}' is not prepared in {str(root)!r}, and {', '.join(hosts)} cannot be reached to download"
            f" it. Prepare it where there is a network (caviar datasets prepare {name}) and copy its directory here,"
            f" or fill TFDS' download cache {str(root / 'downloads')!r}, or give the directory with its files by hand"
            " (manual_dir), or name the directory of a prepared one as the data set."
        )


def _missing_urls(builder: Any, cache: Path, manual_dir: Path) -> list[str]:
    """Return the addresses of the files that TFDS would download."""
    if builder.url_infos is None:  # without recorded checksums, TFDS' own builders read from its bucket
        from_bucket = str(builder.__module__).startswith("tensorflow_datasets.")
        by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        return ["gs://tfds-data"] if from_bucket and not by_hand else []
    return [
        url
        for url, info in builder.url_infos.items()
        if not (info.filename and (manual_dir / info.filename).is_file())
        and not is_in_cache(url, info.checksum, directories=(cache / builder.name, cache))
    ]


def _prepare(name: TfdsName, builder: Any, root: Path, manual_dir: Path | None) -> None:
    directory = Path(builder.data_dir)
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir,
        # Of its own, since TFDS knows extracted files by name alone: it would use MNIST's images for Fashion-MNIST.
        extract_dir=root / "downloads" / "extracted" / "-".join(directory.relative_to(root).parts),
        try_download_gcs=False,
    )
    _logger.info("Preparing data set %s in %s.", name, directory)
    try:
        # The digits take a second: no progress bars, which TFDS could only switch off for good.
        quiet = io.StringIO() if name.name == "digits" else sys.stderr
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            builder.download_and_prepare(download_config=config)
    except Exception as error:  # a builder is foreign code, and raises whatever it likes
        if not is_prepared(directory):  # else a process without our lock was faster, with the same data
            raise DataError(
                f"Data set '{name}' could not be prepared in {str(directory)!r}: {describe_error(error)}"
            ) from error


@contextlib.contextmanager
def _only_one(name: TfdsName, root: Path) -> Iterator[None]:
    """Hold the lock on a data set. It ends with the process, even a killed one; its empty file stays.

    TFDS has no lock: both processes would prepare, and the second would fail to move its result into place.
    """
    lock = FileLock(root / f".caviar-{name.name}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise DataError(
            f"Data set '{name}' is not prepared, and {str(root)!r} cannot be written to ({error.strerror})."
            " Set TFDS_DATA_DIR to a directory that can, or to one that holds the prepared data set."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _kept_until_replaced(directory: Path) -> Iterator[None]:
    """Set a prepared data set aside; put it back if its successor fails."""
    if not directory.exists():
        yield
        return
    aside = directory.with_name(f"incomplete.{directory.name}.{uuid.uuid4().hex}")  # TFDS ignores such names
    directory.rename(aside)
    try:
        yield
    finally:
        if is_prepared(directory):
            shutil.rmtree(aside)
        else:
            aside.rename(directory)
