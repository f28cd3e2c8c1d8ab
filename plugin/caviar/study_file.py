"""A study file's table, read from whatever a path may name; and the values in it, checked for ``spec``."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .errors import SpecError, nearest_name
from .parameters import MAX_WHOLE

_MOST_BYTES = 2**20  # a study file has some hundred
_DEEPEST = 20  # a study file needs five

#: How a table holds a field of its type; a text otherwise.
_KINDS: Final[Mapping[Any, type]] = {
    int: int,
    float: float,
    float | None: float,
    Mapping[str, Any]: dict,
    Mapping[str, str]: dict,
}


def read_table(path: Path, *, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return a TOML file's table, with some values replaced by ``KEY=VALUE`` settings.

    Raises SpecError if it cannot be read, is not TOML, or is larger or nested deeper than any study file.
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
        apply_setting(table, setting)
    _check_depth(table, f"The study file {path}")
    return table


def parse_table(text: str) -> dict[str, Any]:
    """Return the table of a study file that is no file.

    Raises:
        SpecError: If it is not TOML, or nested deeper than any study file.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise SpecError(f"The study file is nested too deeply: {_DEEPEST} levels are allowed.") from error
    except ValueError as error:  # tomllib's own, or a number with thousands of digits
        raise SpecError(f"The study file is not valid TOML: {error}.") from error
    _check_depth(table, "The study file")
    return table


def field_values(
    made: type[Any],
    table: Mapping[str, Any],
    prefix: str,
    *,
    ranges: Mapping[str, tuple[float, float]],
    unchecked: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a table says of the fields of a dataclass, of the right types and within their ``ranges``, by key.

    ``prefix`` comes before the keys in messages: ``search.``. The caller checks the values of the keys ``unchecked``.
    Raises SpecError if a key, a type or a value is not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(made)}
    check_keys(prefix, table, tuple(fields))
    values = dict(table)
    for key in values.keys() - set(unchecked):
        values[key] = typed(table[key], _KINDS.get(fields[key].type, str), prefix + key)
        if key in ranges:
            check_range(values[key], *ranges[key], prefix + key)
    return values


def check_keys(prefix: str, table: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise SpecError if a table has a key that is not allowed."""
    for key in table:
        if key not in allowed:
            raise SpecError(f"The study file has no key {prefix + key!r}. {nearest_name(key, allowed)}")


def require(table: Mapping[str, Any], key: str, prefix: str = "") -> None:
    """Raise SpecError if a table lacks a key."""
    if key not in table:
        raise SpecError(f"The study file needs {prefix + key!r}, but it is missing.")


def typed(value: Any, kind: type, key: str) -> Any:
    """Return a value of a type, a whole number as a float where that is asked for; raise SpecError for any other."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        check_range(value, -MAX_WHOLE, MAX_WHOLE, key)
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = {str: "a text", int: "a whole number", float: "a number", dict: "a table"}
        raise SpecError(f"{key} must be {kinds[kind]}, but got {value!r}.")
    return value


def check_range(value: float, low: float, high: float, key: str) -> None:
    """Raise SpecError if a number is NaN or outside its range."""
    if not value >= low:  # nor is NaN
        raise SpecError(f"{key} must be at least {low}, but got {value}.")
    if value > high:
        raise SpecError(f"{key} must be at most {high:.16g}, but got {value}.")


def _read_text(path: Path) -> str:
    """Return a study file's text, without a byte-order mark; the path may be a pipe, of a shell's ``<(…)``."""
    # A pipe that nobody writes to is not waited for.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        os.set_blocking(file.fileno(), True)
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise SpecError(f"The study file {path} is larger than {_MOST_BYTES} bytes, so it is none. Name a TOML file.")
    return content.decode("utf-8-sig")


def _check_depth(table: Mapping[str, Any], what: str) -> None:
    """Refuse what is nested deeper than any study file, before anything walks it."""
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one)]
        level = [one for one in level if isinstance(one, Mapping | list)]
        if not level:
            return
    raise SpecError(f"{what} is nested too deeply: {_DEEPEST} levels are allowed.")


def apply_setting(table: dict[str, Any], setting: str) -> None:
    """Set a table's value as ``--set KEY=VALUE`` says; raise SpecError for any other text."""
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
