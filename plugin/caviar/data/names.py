"""What a data set's name means, and where TFDS keeps the prepared ones. Nothing here loads TFDS."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..spec import DataSpec
from .images import class_folders

DIGITS_VERSION = "1.0.0"
"""Version of our own builder. Raise it whenever its records change, so that no old preparation is used."""

_TFDS_NAME = re.compile(
    r"(?P<name>[A-Za-z_]\w*)(/(?P<config>[\w+\-.]+))?(:(?P<version>(\d+|\*)(\.(\d+|\*)){2}))?", re.ASCII
)
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsName:
    """A TFDS data set, ``name[/config][:version]``; a version may have ``*`` for any part."""

    name: str
    config: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        version = f":{self.version}" if self.version else ""
        return f"{self.name}{config}{version}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FunctionName:
    """A function that returns arrays, ``package.module:function``."""

    path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileName:
    """A file or directory of the user's: a table, arrays, a folder of images for each class, or a prepared data set."""

    path: Path
    kind: Literal["table", "arrays", "images", "prepared"]


def is_table(path: Path) -> bool:
    """Return whether a file has the name of a table."""
    return path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq")


def parse_name(name: str) -> TfdsName | FunctionName | FileName:
    """Return what a data set's name means.

    It is tried as the directory of a prepared data set, then as a file, by its suffix, or a directory of images, then
    as ``package.module:function``, then as a TFDS name.

    Raises:
        DataError: If the name is none of these, or there is no such file.
    """
    path = Path(name).expanduser()
    is_directory = bool(name) and path.is_dir()
    if is_directory and is_prepared(path):
        return FileName(path=path, kind="prepared")
    if is_table(path) or path.suffix.lower() == ".npz":
        if not path.is_file():
            raise DataError(f"There is no file {name!r}.")
        return FileName(path=path, kind="table" if is_table(path) else "arrays")
    if is_directory and any(part.is_dir() and class_folders(part) for part in (path, path / "train")):
        return FileName(path=path, kind="images")
    if _FUNCTION.fullmatch(name):
        return FunctionName(path=name)
    if match := _TFDS_NAME.fullmatch(name):
        return TfdsName(name=match["name"], config=match["config"], version=match["version"])
    if is_directory:
        inside = _prepared_below(path)
        hint = f" Inside it are: {', '.join(inside)}." if inside else ""
        raise DataError(f"Directory {name!r} holds no prepared TFDS data set: it has no dataset_info.json.{hint}")
    raise DataError(
        f"{name!r} names no data set. Allowed are a TFDS name (name, name/config, name:1.0.0), the directory of a"
        " prepared TFDS data set, a table (.csv, .tsv, .parquet), an .npz file, a directory with a folder of images for"
        " each class, and package.module:function."
    )


def absolute_data(data: DataSpec) -> DataSpec:
    """Return a data set's description that means the same after the user's code has changed the working directory."""
    dataset, test = data.dataset, data.test
    with contextlib.suppress(DataError):  # reading the data will raise it again
        if isinstance(parse_name(dataset), FileName):
            dataset = str(Path(dataset).expanduser().absolute())
    if test is not None:
        test = str(Path(test).expanduser().absolute())
    return dataclasses.replace(data, dataset=dataset, test=test)


def _prepared_below(directory: Path) -> list[str]:
    """Return up to three prepared data sets below a directory, as deep as TFDS puts them: name/config/version."""
    try:
        found = [info for levels in range(1, 4) for info in directory.glob("*/" * levels + "dataset_info.json")]
    except OSError:  # unreadable or just removed; this is only a hint
        return []
    return sorted(str(info.parent) for info in found)[:3]


def data_root(data_dir: Path | None) -> Path:
    """Return the directory that TFDS prepares data sets in: by default ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.

    It is TFDS' own directory, so caviar finds what the user has prepared, and ``tfds.load`` what caviar has. TFDS reads
    the variable once, when it is imported; this reads it at each call.

    Raises:
        DataError: If the variable names a bucket; studies read data from a disk.
    """
    name = str(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    if "://" in name:
        raise DataError(
            f"TFDS_DATA_DIR must be a directory on this machine, but is {name!r}. Copy the data set to one."
        )
    return Path(name).expanduser().absolute()


def is_prepared(directory: Path) -> bool:
    """Return whether a directory holds a prepared TFDS data set; TFDS moves it into place when it is complete."""
    return (directory / "dataset_info.json").is_file() and (directory / "features.json").is_file()


def find_prepared(name: TfdsName, data_dir: Path) -> Path | None:
    """Return the directory of the newest prepared version that the name allows, or None.

    If the name has no version, any version will do, even one older than the installed TFDS would prepare: offline,
    there may be no other.
    """
    wanted = name.version or (DIGITS_VERSION if name.name == "digits" else "*.*.*")
    pattern = re.compile(re.escape(wanted).replace(r"\*", r"\d+"))
    parent = data_dir / name.name
    config = name.config or _default_config(parent)
    versions = _prepared_versions(parent / config if config else parent)
    return next((version for version in reversed(versions) if pattern.fullmatch(version.name)), None)


def find_all_prepared(data_dir: Path) -> Iterator[tuple[TfdsName, Path]]:
    """Yield the name and directory of each prepared data set, sorted by name; of several versions, the newest."""
    for parent in _directories(data_dir):
        if parent.name == "downloads":  # TFDS' cache, which may hold millions of files
            continue
        if versions := _prepared_versions(parent):
            yield TfdsName(name=parent.name), versions[-1]
            continue
        for config in _directories(parent):
            if versions := _prepared_versions(config):
                yield TfdsName(name=parent.name, config=config.name), versions[-1]


def _prepared_versions(directory: Path) -> list[Path]:
    """Return the prepared versions in a directory, the oldest first."""
    found = [path for path in _directories(directory) if _VERSION.fullmatch(path.name) and is_prepared(path)]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])


def _directories(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # missing or unreadable: nothing is prepared there
        return []


def _default_config(parent: Path) -> str | None:
    """Return the default config that TFDS noted when it prepared one, or None."""
    try:
        metadata = json.loads((parent / ".config" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metadata.get("default_config_name") or None
