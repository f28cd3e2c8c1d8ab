"""Names as MLflow takes them: it refuses what looks like a path, most punctuation, and what is long."""

import functools
import hashlib
import posixpath
import re
from typing import Final

_LONGEST: Final = 250  # characters


@functools.lru_cache(maxsize=1024)
def mlflow_name(name: str) -> str:
    """Return a parameter's or metric's name for MLflow: the name itself where MLflow takes it.

    Example:
        >>> mlflow_name("rate (%)")
        'rate _28_25_29'
    """
    fitting = re.sub(r"[^/\w.\- ]", _code, name)
    if posixpath.normpath(fitting) != fitting or fitting.startswith((".", "/")):  # a path, and not in its own form
        fitting = re.sub(r"/|^\.", _code, fitting) or "_"
    if len(fitting) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        fitting = f"{fitting[: _LONGEST - 9]}_{digest}"
    return fitting


def _code(found: re.Match[str]) -> str:
    return f"_{ord(found[0]):02x}"
