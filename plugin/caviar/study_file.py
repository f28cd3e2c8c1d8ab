"""A study file's table, read from whatever a path may name; what the table says is checked by ``spec``."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import SpecError

_MOST_BYTES = 2**20  # a study file has some hundred
_DEEPEST = 20  # a study file needs five


def read_table(path: Path, *, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return a TOML file's table, with some values replaced by ``KEY=VALUE`` settings.

    Raises:
        SpecError: If it cannot be read, is not TOML, or is larger or nested deeper than any study file.
    """
    try:
        table = tomllib.loads(_read_text(path))
    except FileNotFoundError as error:
        raise SpecError(f"There is no study file {path}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"The study file {path} cannot be read as UTF-8: {error}. Save it so.") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"The study file {path} is not valid TOML: {error}.") from error
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        raise SpecError(f"The study file {path} cannot be read: {getattr(error, 'strerror', error)}.") from error
    except RecursionError as error:
        raise SpecError(f"The study file {path} is nested too deeply: {_DEEPEST} levels are allowed.") from error
    for setting in settings:
        _apply_setting(table, setting)
    _check_depth(table, path)
    return table


def _read_text(path: Path) -> str:
    """Return a study file's text, without a byte-order mark.

    The path may be a pipe (``<(…)`` of a shell), but one that nobody writes to is not waited for.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        os.set_blocking(file.fileno(), True)
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise SpecError(f"The study file {path} is larger than {_MOST_BYTES} bytes, so it is none. Name a TOML file.")
    return content.decode("utf-8-sig")


def _check_depth(table: Mapping[str, Any], path: Path) -> None:
    """Refuse what is nested deeper than any study file, before anything walks it."""
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one)]
        level = [one for one in level if isinstance(one, Mapping | list)]
        if not level:
            return
    raise SpecError(f"The study file {path} is nested too deeply: {_DEEPEST} levels are allowed.")


def _apply_setting(table: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise SpecError(f"--set takes KEY=VALUE, search.trials=60 for instance, but got {setting!r}.")
    try:
        parsed = tomllib.loads(f"value = {text}")
        value: Any = parsed["value"] if len(parsed) == 1 else text  # a line break in it may begin another key
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise SpecError(f"--set {key}: {parent} is a value in the study file, not a table.")
    table[last] = value
