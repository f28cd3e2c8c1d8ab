"""A champion's network as an ONNX or a LiteRT (TFLite) file, for machines that have no TensorFlow."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..atomic_write import written_whole
from ..errors import SpecError, StorageError
from .saved import Champion

#: Rows on which a converted network is compared with its original, and by how much their probabilities may differ.
_ROWS: Final = 32
_TOLERANCE: Final = 1e-4
_OPSET: Final = 18  # ONNX operators of 2023, which runtimes have had since

_Ask = Callable[[NDArray[Any]], NDArray[Any]]


def convert_champion(champion: Champion, path: Path) -> None:
    """Write a champion's network in another format, once the file has been read back and gives the same.

    Its input, ``features``, has the shape and type of training: raw values of arrays and images; of a table, the
    numbers that ``preprocessing.skops`` makes of its columns. Its output holds the probabilities, in the order of
    ``champion.json``'s classes.

    Args:
        champion: The champion.
        path: The file to write; its suffix, ``.onnx`` or ``.tflite``, decides on the format.

    Raises:
        SpecError: If the suffix is another one, or the converter is not installed.
        StorageError: If the network cannot be converted, gives other probabilities afterwards, or cannot be written.
    """
    convert = {".onnx": _onnx, ".tflite": _tflite}.get(path.suffix.lower())
    if convert is None:
        raise SpecError(f"A network is exported to a .onnx or .tflite file, but got {str(path)!r}.")
    sample = _sample(champion)
    try:
        with _quiet():
            content, ask = convert(champion.network_function())
            difference = float(np.abs(ask(sample) - champion.ask(sample)).max())
    except ImportError as error:
        raise SpecError(
            f"Exporting to {path.suffix} needs {error.name}, which is not installed: "
            "`pip install 'optuna-caviar[onnx]'`."
        ) from error
    except Exception as error:  # converters raise what they like
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"The network of {champion.name!r} cannot be converted to {path.suffix}: {reason}."
        ) from error
    if not difference <= _TOLERANCE:
        raise StorageError(
            f"The network of {champion.name!r} gives other probabilities as {path.suffix}: they differ by "
            f"{difference:.2g}, and {_TOLERANCE:g} is allowed. Nothing was written; use network.keras."
        )
    try:
        with written_whole(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error


def _onnx(function: Any) -> tuple[bytes, _Ask]:
    import onnxruntime
    import tf2onnx

    from ..training.tensorflow_private import frozen_graph

    # Not tf2onnx's own way from a function: it loses the constants of Keras' Normalization layer.
    graph, inputs, outputs = frozen_graph(function)
    model, _ = tf2onnx.convert.from_graph_def(graph, input_names=inputs, output_names=outputs, opset=_OPSET)
    content = _renamed(model, {inputs[0]: "features", outputs[0]: "probabilities"}).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda rows: session.run(None, {"features": rows})[0]


def _renamed(model: Any, names: dict[str, str]) -> Any:
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
    return model


def _tflite(function: Any) -> tuple[bytes, _Ask]:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    content = converter.convert()
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate would announce itself
    interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=plain)

    def ask(rows: NDArray[Any]) -> NDArray[Any]:
        (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(takes["index"], rows.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(takes["index"], rows)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(gives["index"]))

    return content, ask


def _sample(champion: Champion) -> NDArray[Any]:
    """Return random rows of the champion's form."""
    random = np.random.default_rng(0)
    shape, dtype = (_ROWS, *champion.form.shape), np.dtype(champion.form.dtype)
    if dtype.kind in "iu":
        return random.integers(0, 256, shape).astype(dtype)
    return random.normal(size=shape).astype(dtype)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the converters print and warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
