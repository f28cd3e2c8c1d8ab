"""Traced programs kept on disk, so that the next process need not trace them: loading one takes some milliseconds."""

import contextlib
import functools
import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf
from tensorflow.python.eager import context  # there is no public way to register a function or to call it by its name

_logger = logging.getLogger(__name__)

_PREFIX: Final = "programs-"
_UNUSED_S: Final = 30 * 86_400.0
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


class Program:
    """A function of TensorFlow's runtime, called without a look at its arguments.

    A concrete function compares each of its forty arguments with its signature, in Python, at every call: 1 ms, a
    quarter of a small fleet's epoch.

    Args:
        definition: The function's; it and what it calls are registered.
        keeps: What has to live as long as the program.
    """

    def __init__(self, definition: Any, *, keeps: object = None) -> None:
        self._name = definition.signature.name.encode()
        self._n_outputs = len(definition.signature.output_arg)
        self._keeps = keeps

    def __call__(self, *tensors: Any) -> list[Any]:
        """Run it on tensors, in the order of its signature, and return its results."""
        return list(context.context().call_function(self._name, list(tensors), self._n_outputs))

    @classmethod
    def of(cls, traced: Any) -> "Program":
        """Return the program of a concrete function that captures nothing."""
        assert not traced.captured_inputs
        return cls(traced.function_def, keeps=traced)


class KeptPrograms:
    """A directory of traced programs, for one TensorFlow, one Keras and one state of the sources.

    Any file there can be missing, cut off or overwritten at any time: then its program is traced. Other versions'
    programs are removed when a month has passed since the last of them was traced.

    Args:
        directory: Of the user: what stands there is run. Created when a program is first kept.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._directory = directory / f"{_PREFIX}{_fingerprint()}"

    def load(self, key: str) -> Program | None:
        """Return the program kept under a key, or None."""
        token = _token(key)
        try:
            content = (self._directory / token).read_bytes()
        except OSError:
            return None
        digest, serialized = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(serialized).digest() != digest:
            return None
        functions = tf.compat.v1.GraphDef.FromString(serialized).library.function
        for function in functions:
            if not context.context().has_function(function.signature.name):
                context.context().add_function_def(function)
        return Program(functions[-1])

    def save(self, key: str, traced: Any) -> None:
        """Keep a concrete function that captures nothing; a full disk is no reason to fail."""
        token = _token(key)
        temporary = self._directory / f".{token}-{time.time_ns()}"
        try:
            if not self._directory.exists():
                self._remove_unused()
                self._directory.mkdir(parents=True, exist_ok=True)
            serialized = _renamed(traced, token).SerializeToString()
            temporary.write_bytes(hashlib.sha256(serialized).digest() + serialized)
            temporary.replace(self._directory / token)
        except OSError as error:
            _logger.debug("A program could not be kept in %s, and will be traced again: %s", self._directory, error)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _remove_unused(self) -> None:
        for directory in self._root.glob(f"{_PREFIX}*"):
            if time.time() - directory.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(directory, ignore_errors=True)


def _renamed(traced: Any, token: str) -> Any:
    """Return a graph whose library holds the function, last, and those that it calls, under names of their own.

    TensorFlow numbers the functions of each process, and refuses a second one of the same name.
    """
    graph = tf.compat.v1.GraphDef()
    graph.library.function.extend(traced.graph.as_graph_def().library.function)
    graph.library.function.append(traced.function_def)
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


def _token(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:24]


@functools.cache
def _fingerprint() -> str:
    """Return a digest of all that a trace depends on besides its key: versions, and the sources that trace."""
    digest = hashlib.sha256(f"{tf.__version__} {keras.__version__}".encode())
    package = Path(__file__).parents[2]
    sources = [*(package / "training").rglob("*.py"), *(package / "networks").rglob("*.py")]
    for source in sorted([*sources, package / "config.py", package / "program_key.py"]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
