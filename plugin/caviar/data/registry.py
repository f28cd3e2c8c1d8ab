"""TFDS' builders by name, ours among them, looked up without any network."""

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import tensorflow_datasets as tfds

from ..errors import DataError
from .columns import few
from .digits import Digits
from .names import TfdsName, find_all_prepared

#: Ours, which need no look at TFDS' own: that imports hundreds of modules, which takes a fifth of a second.
_OURS: Final[Collection[str]] = (Digits.name,)


def known_names() -> list[str]:
    """Return the names of all builders, sorted: TFDS', ours, and those that imported modules registered.

    Community data sets are missing, since TFDS would ask a server for them.
    """
    return sorted(tfds.list_builders(with_community_datasets=False))


def create_builder(name: TfdsName, data_dir: Path) -> Any:
    """Return the TFDS builder of a data set.

    Raises:
        DataError: If TFDS has no such data set, config or version, or it needs a package that is not installed.
    """
    known = _OURS if name.name in _OURS else known_names()
    if name.name not in known:
        prepared = {str(found): directory for found, directory in find_all_prepared(data_dir)}
        if here := [str(directory) for found, directory in prepared.items() if found.split("/")[0] == name.name]:
            raise DataError(
                f"Data set '{name}' is not prepared, and no builder is known that could make it. Prepared under this "
                f"name: {few(here)}."
            )
        raise DataError(
            f"There is no data set named {name.name!r}.{_near(name.name, {*known, *prepared})} See caviar datasets for"
            " all names, or name the directory of a prepared TFDS data set, or a package.module:function."
        )
    try:
        builder_class = tfds.builder_cls(name.name)
        configs = list(builder_class.builder_configs)
    except Exception as error:  # foreign code, which may need a package that is not installed
        raise DataError(f"Data set '{name}' cannot be loaded: {type(error).__name__}: {error}") from error
    if name.config and name.config not in configs:
        allowed = f"{_near(name.config, configs)} It has: {few(configs)}." if configs else " It has no configs."
        raise DataError(f"Data set {name.name!r} has no config {name.config!r}.{allowed}")
    try:
        # Not tfds.builder(): given a version, it returns a reader of the prepared files, which cannot prepare them.
        return builder_class(data_dir=data_dir, config=name.config, version=name.version)
    except Exception as error:
        raise DataError(f"Data set '{name}' cannot be had: {str(error).strip().splitlines()[-1]}") from error


def _near(name: str, allowed: Collection[str]) -> str:
    """Return a question about the nearest names, if any. There are hundreds, too many to list."""
    near = difflib.get_close_matches(name, sorted(allowed), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(found) for found in near)}?" if near else ""
