"""Every use of TensorFlow's private and experimental parts.

Checked with TensorFlow 2.21.0; tests/training/test_private_parts.py tries each.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.client import device_lib
from tensorflow.python.eager import context
from tensorflow.python.framework import convert_to_constants


class RegisteredFunction:
    """A function of TensorFlow's runtime, called by its name; nothing public registers one or calls it so.

    A concrete function compares each of its forty arguments with its signature, in Python, at every call: 1 ms, a
    quarter of a small fleet's epoch. The definition, a FunctionDef, and those that it calls are registered; ``keeps``
    must live as long as the function.
    """

    def __init__(self, definition: Any, *, keeps: object = None) -> None:
        self._name = definition.signature.name.encode()
        self._n_outputs = len(definition.signature.output_arg)
        self._keeps = keeps

    @classmethod
    def of(cls, traced: Any) -> "RegisteredFunction":
        """Return the runtime's function of a concrete function that captures nothing."""
        assert not traced.captured_inputs
        return cls(traced.function_def, keeps=traced)

    @classmethod
    def register(cls, definitions: Sequence[Any]) -> "RegisteredFunction":
        """Register the definitions that are new to this process, and return the last one's function."""
        for definition in definitions:
            if not context.context().has_function(definition.signature.name):
                context.context().add_function_def(definition)
        return cls(definitions[-1])

    def __call__(self, *tensors: Any) -> list[Any]:
        """Run the function on tensors, in the order of its signature, and return its results."""
        return list(context.context().call_function(self._name, list(tensors), self._n_outputs))


def call_loop_bodies(graph: Any) -> None:
    """Make a graph's loops and conditions call their bodies instead of merging them with the graph around them.

    Merged, as TensorFlow does by default, every operation of the body takes part in the loop's bookkeeping: a small
    network's steps are a tenth slower, and its first call 0.03 s. TensorFlow has no public switch for it.
    """
    for operation in graph.get_operations():
        if operation.type in ("While", "StatelessWhile", "If", "StatelessIf"):
            operation._set_attr("_lower_using_switch_merge", tf.compat.v1.AttrValue(b=False))


class _WithoutRewriting:
    """Turns TensorFlow's option off for as long as any thread is inside, and puts it back with the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
            self._inside += 1
            self._set(off=True)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            self._set(off=self._inside > 0 or self._before)

    def _set(self, *, off: bool) -> None:
        """Set the option in every call, because each thread keeps the value it last saw."""
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off})


_WITHOUT_REWRITING = _WithoutRewriting()


def without_graph_rewriting() -> contextlib.AbstractContextManager[None]:
    """Skip TensorFlow's graph rewriting in the calls made inside this context.

    Rewriting takes 0.1 to 0.2 s of a program's first call, as long as ten epochs of a small network. The option is
    experimental, belongs to the whole process and is part of what identifies a compiled program, so every call needs
    it.
    """
    return _WITHOUT_REWRITING


def keep_tensorflow_seed() -> Callable[[], None]:
    """Return a function that restores the seed TensorFlow has now: no public function reads it and its draws."""
    eager = context.context()
    seed, draws = eager._seed, getattr(eager, "_rng", None)  # _rng exists once a seed was set

    def restore() -> None:
        eager._seed, eager._rng = seed, draws

    return restore


def memory_limit(kind: str) -> int | None:
    """Return the bytes of the first device of a kind, as "GPU", or None without one; no public device list has them."""
    if not tf.config.list_physical_devices(kind):
        return None  # the private list initialises every device
    return next(
        (int(device.memory_limit) for device in device_lib.list_local_devices() if device.device_type == kind), None
    )


def frozen_graph(function: Any) -> tuple[Any, list[str], list[str]]:
    """Return a concrete function's GraphDef, its variables as constants, and the names of its inputs and outputs.

    Converters to other formats need it; TensorFlow's public ones keep the graph to themselves.
    """
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs))
    return frozen.graph.as_graph_def(), inputs, outputs
