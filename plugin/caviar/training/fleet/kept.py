"""Traced programs on disk, so that the next process need not trace them: it loads one in some milliseconds."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from ...user_cache import keep, load_kept, remove_unused, sources_digest
from ..tensorflow_private import RegisteredFunction

_PREFIX: Final = "programs-"


class KeptPrograms:
    """A directory of traced programs, for one TensorFlow, one Keras and one state of the sources.

    A file may be missing, cut off or overwritten at any time; its program is then traced. `FleetPrograms` tries a
    program on data of its signature before it trusts it. Programs of other versions are removed a month after the last
    of them was traced. The directory must be the user's own, because its files are run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / f"{_PREFIX}{_fingerprint()}"

    def load(self, key: str) -> RegisteredFunction | None:
        """Return the program kept under a key, or None."""
        if (serialized := load_kept(self._path(key))) is None:
            return None
        return RegisteredFunction.register(tf.compat.v1.GraphDef.FromString(serialized).library.function)

    def save(self, key: str, traced: Any) -> None:
        """Keep a concrete function that captures nothing; if the disk is full, do without."""
        if not self._directory.exists():
            remove_unused(self._directory.parent, f"{_PREFIX}*")
        keep(self._path(key), _renamed(traced).SerializeToString())

    def _path(self, key: str) -> Path:
        return self._directory / hashlib.sha256(key.encode()).hexdigest()[:24]


def _renamed(traced: Any) -> Any:
    """Return a graph whose library holds the functions that this one calls, and last itself, under unique names.

    TensorFlow numbers the functions of each process, and refuses a second one of the same name.
    """
    graph = tf.compat.v1.GraphDef()
    graph.library.function.extend(traced.graph.as_graph_def().library.function)
    graph.library.function.append(traced.function_def)
    token = hashlib.sha256(graph.SerializeToString()).hexdigest()[:24]
    names = {function.signature.name for function in graph.library.function}
    for function in graph.library.function:
        function.signature.name += f"_{token}"
        for called in _called(function):
            if called.name in names:
                called.name += f"_{token}"
    return graph


def _called(function: Any) -> Iterator[Any]:
    for node in function.node_def:
        for attribute in node.attr.values():
            if attribute.HasField("func"):
                yield attribute.func
            yield from attribute.list.func


def _fingerprint() -> str:
    """Return a digest of everything that a trace depends on besides its key: versions, sources, kind of machine."""
    versions = [tf.__version__, tf.version.GIT_VERSION, keras.__version__, np.__version__, platform.python_version()]
    facts = [*versions, platform.machine(), sources_digest()]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:16]
