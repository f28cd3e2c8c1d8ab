"""A champion in use: predictions for a file, streamed, and its network in other formats."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from ..atomic_write import written_whole
from ..champion.saved import Champion
from ..errors import SpecError, StorageError
from ..storage.home import Home

_SUFFIXES: Final = (".csv", ".json", ".parquet")

#: Takes some rows' labels and probabilities, rounded to float32.
Writer = Callable[[list[Any], NDArray[np.float32]], None]


def find_champion(home: Home, name: str) -> Champion:
    """Return a champion by its directory, or by its study's name.

    Raises:
        StorageError: If there is none, or it cannot be read.
    """
    path = Path(name)
    return Champion(path if path.is_dir() else home.champions / name)


def predict_file(home: Home, champion: str, path: Path, *, output: Path | None, results: TextIO) -> int:
    """Write the label and the probabilities of every example of a file.

    The file is read part by part, so that any number of rows fits in memory. The output appears whole, or not at all.

    Args:
        home: Where champions stand.
        champion: A study's name, or a champion's directory.
        path: The file; see `Champion.file_features`.
        output: A ``.csv``, ``.json`` or ``.parquet`` file; None to print CSV.
        results: Where it is printed.

    Returns:
        How many examples there were.

    Raises:
        DataError: If the file cannot be read, or has another form than the champion takes.
        SpecError: If the output has another suffix.
        StorageError: If there is no such champion, or the output cannot be written.
    """
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise SpecError(f"--output must end in {', '.join(_SUFFIXES)}, but got {str(output)!r}.")
    found = find_champion(home, champion)
    if output is None:
        return _write(found, path, _csv_writer(results, found.description["classes"]))
    try:
        with written_whole(output) as beside, _opened(beside, found) as write:
            return _write(found, path, write)
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}.") from error


def _write(champion: Champion, path: Path, write: Writer) -> int:
    n = 0
    for features in champion.file_features(path):
        probabilities = champion.ask(features)
        write(champion.classes[probabilities.argmax(axis=1)].tolist(), probabilities)
        n += len(features)
    return n


@contextlib.contextmanager
def _opened(path: Path, champion: Champion) -> Iterator[Writer]:
    names = champion.description["classes"]
    if path.suffix.lower() == ".parquet":
        with _parquet_writer(path, champion) as write:
            yield write
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield _csv_writer(file, names)
            return
        first = True

        def write_json(labels: list[Any], probabilities: NDArray[np.float32]) -> None:
            nonlocal first
            for label, row in zip(labels, probabilities.astype(float).round(7).tolist(), strict=True):
                file.write("[\n" if first else ",\n")
                file.write(json.dumps({"label": label, "probabilities": dict(zip(names, row, strict=True))}))
                first = False

        yield write_json
        file.write("[]\n" if first else "\n]\n")


def _csv_writer(file: TextIO, names: list[str]) -> Writer:
    rows = csv.writer(file, lineterminator="\n")
    begun = False

    def write(labels: list[Any], probabilities: NDArray[np.float32]) -> None:
        nonlocal begun
        if not begun:
            rows.writerow(["label", *(f"p_{name}" for name in names)])
            begun = True
        columns = [[f"{value:.7g}" for value in column] for column in probabilities.T.tolist()]
        rows.writerows(zip(labels, *columns, strict=True))

    return write


@contextlib.contextmanager
def _parquet_writer(path: Path, champion: Champion) -> Iterator[Writer]:
    import pyarrow as pa
    import pyarrow.parquet

    names = champion.description["classes"]
    label_type = {"i": pa.int64(), "b": pa.bool_()}.get(champion.classes.dtype.kind, pa.string())
    schema = pa.schema([("label", label_type), *((f"p_{name}", pa.float32()) for name in names)])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:

        def write(labels: list[Any], probabilities: NDArray[np.float32]) -> None:
            columns = [pa.array(labels, label_type), *(pa.array(column) for column in probabilities.T)]
            writer.write_table(pa.table(columns, schema=schema))

        yield write


def export_champion(home: Home, champion: str, path: Path) -> None:
    """Write a champion's network to an ``.onnx`` or ``.tflite`` file; see `convert_champion`."""
    from ..champion.converted import convert_champion

    convert_champion(find_champion(home, champion), path)


def load_champion(name: str | Path, *, home: str | Path = "runs") -> Champion:
    """Load the champion of a study.

    Args:
        name: The study's name, or the champion's directory.
        home: The home directory in which the study was run.

    Raises:
        StorageError: If there is none, or it cannot be read.

    Example:
        >>> load_champion("digits").predict(images)  # doctest: +SKIP
    """
    from ..storage.home import locate_home

    return find_champion(locate_home(Path(home)), str(name))
