"""Study files and options from the network: they name no code, and no file outside the upload directory."""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..data.names import TfdsName, parse_name
from ..errors import DataError, SpecError, nearest_name
from ..sampler_table import SAMPLERS
from ..spec import PRUNERS, DataSpec, SearchSpec, StudySpec, parse_spec, spec_table
from ..study_file import parse_table
from .settings import ServiceSettings

#: What an upload may be called: a plain name with one of the suffixes of data.
UPLOAD_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.(csv|tsv|parquet|npz|npy)"
_TFDS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z0-9_+.-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?")
_MOST_OPTIONS: Final = 1000
#: Candidates and populations beyond this would take the service's memory.
_LARGEST_OPTION: Final = 10_000


def network_spec(text: str, settings: ServiceSettings) -> StudySpec:
    """Return what a study file from the network says, with the paths of the uploads that it names.

    Raises:
        SpecError: If it is not allowed, or names code, more workers than ``max_workers`` or another file.
        DataError: If it names an upload that is not there.
    """
    if len(text.encode(errors="surrogatepass")) > settings.max_study_bytes:
        raise SpecError(f"The study file is larger than {settings.max_study_bytes} bytes.")
    spec = parse_spec(parse_table(text))
    if spec.name.endswith(".toml"):
        raise SpecError(f"A study may not be called {spec.name!r} here: that would be a study file.")
    if spec.objective.network is not None:
        raise SpecError(_no_code("objective.network", spec.objective.network))
    check_search(spec.search)
    if spec.search.workers > settings.max_workers:
        raise SpecError(f"search.workers must be at most {settings.max_workers} here, but got {spec.search.workers}.")
    return dataclasses.replace(spec, data=_uploaded(spec.data, settings.uploads))


def check_search(search: SearchSpec) -> None:
    """Refuse a sampler, a pruner or an option that names code.

    Raises:
        SpecError: Naming the key.
    """
    for key, names in (("sampler", tuple(SAMPLERS)), ("pruner", PRUNERS)):
        name = getattr(search, key)
        if name not in names:
            raise SpecError(f"{_no_code(f'search.{key}', name)} {nearest_name(name, names)}")
        options = getattr(search, f"{key}_options")
        for n, value in enumerate(_leaves(options)):
            if n >= _MOST_OPTIONS:
                raise SpecError(f"search.{key}_options has more than {_MOST_OPTIONS} values.")
            if key == "sampler" and isinstance(value, int | float) and abs(value) > _LARGEST_OPTION:
                raise SpecError(f"search.sampler_options may hold at most {_LARGEST_OPTION} here, but got {value}.")
            if isinstance(value, str) and not re.fullmatch(r"\w{1,100}", value):
                raise SpecError(_no_code(f"search.{key}_options", value))


def toml_text(spec: StudySpec) -> str:
    """Return a study file that says what a spec does, in tables as a person writes them."""
    table = spec_table(spec)
    lines = [_line(key, value) for key, value in table.items() if not isinstance(value, Mapping)]
    for name, part in table.items():
        if isinstance(part, Mapping):
            lines += ["", f"[{name}]", *(_line(key, value) for key, value in part.items())]
    return "\n".join([*lines, ""])


def _line(key: str, value: Any) -> str:
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", key)
    return f"{key if bare else _toml(key)} = {_toml(value)}"


def _no_code(key: str, value: str) -> str:
    return f"{key} is {value[:200]!r}, but a study file from the network may not name code. Run it with `caviar run`."


def _uploaded(data: DataSpec, uploads: Path) -> DataSpec:
    test = None if data.test is None else str(_upload(data.test, uploads))
    return dataclasses.replace(data, dataset=_dataset(data.dataset, uploads), test=test)


def _dataset(name: str, uploads: Path) -> str:
    if not _TFDS.fullmatch(name) or "." in name.partition(":")[0]:
        return str(_upload(name, uploads))
    if not isinstance(parse_name(name), TfdsName):  # a directory of that name where the service was started
        raise DataError(f"The data set {name!r} is a file of the service's own. Upload it, or name another.")
    return name


def _upload(name: str, uploads: Path) -> Path:
    """Return the path of an upload, which may be named with its directory."""
    plain = name.removeprefix(f"{uploads}{os.sep}")
    if not re.fullmatch(UPLOAD_NAME, plain):
        raise SpecError(
            f"The data {name[:200]!r} is neither a TFDS name nor the name of an upload. A study file from the network "
            "may name no other file and no code: PUT the file to /v1/uploads/NAME, and give its NAME."
        )
    path = uploads / plain
    if path.is_symlink() or not path.is_file():
        raise DataError(f"There is no upload {plain!r}. PUT it to /v1/uploads/{plain} first.")
    return path


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)  # whole numbers, floats and booleans are spelled as in JSON
