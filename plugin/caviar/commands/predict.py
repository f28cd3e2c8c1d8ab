"""A champion in use: predictions for a file, streamed, and its network in other formats."""

import contextlib
import csv
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from ..atomic_write import written_whole
from ..champion.saved import Champion
from ..champion.standing import champion_directory
from ..data.preprocessing import NewValues
from ..errors import DataError, SpecError, StorageError
from ..storage.home import Home

_logger = logging.getLogger(__name__)

_SUFFIXES: Final = (".csv", ".json", ".parquet")

#: Takes some rows' labels and probabilities, rounded to float32.
Writer = Callable[[list[Any], NDArray[np.float32]], None]


def find_champion(home: Home, name: str) -> Champion:
    """Return a champion by its directory, or by its study's name.

    Raises:
        StorageError: If there is none, or it cannot be read.
    """
    path = Path(name)
    return Champion(path if path.is_dir() else champion_directory(home.champions / name))


def predict_file(
    home: Home, champion: str, path: Path, *, output: Path | None, results: TextIO, strict: bool = False
) -> int:
    """Write the label and the probabilities of every example of a file.

    The file is read part by part, so that any number of rows fits in memory. The output appears whole, or not at all.
    Values of a table that training did not have count as unknown, or are imputed; a warning names their columns.

    Args:
        home: Where champions stand.
        champion: A study's name, or a champion's directory.
        path: The file; see `Champion.file_features`.
        output: A ``.csv``, ``.json`` or ``.parquet`` file; None to print CSV.
        results: Where it is printed.
        strict: Whether values that training did not have are refused.

    Returns:
        How many examples there were.

    Raises:
        DataError: If the file cannot be read, has another form than the champion takes, or is refused.
        SpecError: If the output has another suffix.
        StorageError: If there is no such champion, or the output cannot be written.
    """
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise SpecError(f"--output must end in {', '.join(_SUFFIXES)}, but got {str(output)!r}.")
    found, watch = find_champion(home, champion), _Watch(path, strict=strict)
    if output is None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as whole:
            n = _write(found, path, _csv_writer(whole, found.description["classes"]), watch)
            whole.seek(0)
            shutil.copyfileobj(whole, results)
            results.flush()
        watch.warn()
        return n
    try:
        with written_whole(output) as beside, _opened(beside, found) as write:
            n = _write(found, path, write, watch)
        watch.warn()
        return n
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}.") from error


class _Watch:
    """Remembers which columns of a table have values that training did not have, or refuses them."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self._path, self._strict = path, strict
        self._seen: dict[str, tuple[int, str]] = {}
        self.n_rows = 0  # before the part at hand

    def __call__(self, found: Mapping[str, NewValues]) -> None:
        for column, new in found.items():
            what = "no value" if new.value is None else repr(new.value)
            if self._strict:
                raise DataError(
                    f"Input {str(self._path)!r}, row {self.n_rows + new.row + 2}: column {column!r} has {what}, which "
                    "no row of training had. Correct it, or leave --strict out."
                )
            n, first = self._seen.get(column, (0, what))
            self._seen[column] = (n + new.n, first)

    def warn(self) -> None:
        """Say on the log what was unknown."""
        for column, (n, what) in self._seen.items():
            rows = "1 row has a value" if n == 1 else f"{n} rows have values"
            _logger.warning("Column %r: %s that no row of training had, such as %s.", column, rows, what)


def _write(champion: Champion, path: Path, write: Writer, watch: _Watch) -> int:
    n = 0
    for features in champion.file_features(path, watch=watch):
        watch.n_rows = n + len(features)
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


def load_champion(name: str | Path, *, home: str | Path = "runs", files: str | None = None) -> Champion:
    """Load the champion of a study.

    Args:
        name: The study's name, or the champion's directory.
        home: The home directory in which the study was run.
        files: The directory or the address that was given as ``--files``, if any.

    Raises:
        StorageError: If there is none, or it cannot be read.

    Example:
        >>> load_champion("digits").predict(images)  # doctest: +SKIP
    """
    from ..storage.home import locate_home

    return find_champion(locate_home(Path(home), files=files), str(name))
