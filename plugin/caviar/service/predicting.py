"""What the service asks of data and champions in a process beside it. Nothing here loads what could be executed."""

import csv
import functools
import io
import math
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from ..champion.saved import DESCRIPTION, Champion
from ..champion.standing import champion_directory
from ..commands.predict import predict_file
from ..data.images import FORMATS, is_image
from ..data.tables import is_parquet
from ..errors import DataError
from ..storage.home import Home

_MOST_ROWS: Final = 10**8
_MOST_MEMBERS: Final = 100
_MOST_PIXELS: Final = 50_000_000


def check_data_file(path: Path, most_bytes: int) -> None:
    """Refuse a file of arrays, an image or a Parquet file that says it holds more than its bytes could be meant for.

    Args:
        path: The file, by its suffix.
        most_bytes: Of what it holds, unpacked.

    Raises:
        DataError: If it holds more, or cannot be read at all.
    """
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as file:
                members = file.infolist()
                n_bytes = sum(member.file_size for member in members)
                if len(members) > _MOST_MEMBERS or n_bytes > most_bytes:
                    raise DataError(f"{path.name} holds {len(members)} arrays of {n_bytes} bytes: that is too much.")
                for member in members:
                    with file.open(member) as array:
                        _check_array(array, path.name, size=member.file_size)
        elif path.suffix == ".npy":
            with path.open("rb") as array:
                _check_array(array, path.name, size=path.stat().st_size)
        elif is_image(path):
            _check_image(path)
        elif is_parquet(path):
            _check_parquet(path, most_bytes=most_bytes)
    except DataError:
        raise
    except Exception as error:  # what reads files of others' making raises almost anything
        raise DataError(f"{path.name} cannot be read: {error}.") from error


def predict_rows(home: Home, name: str, rows: Sequence[Any]) -> dict[str, Any]:
    """Return the labels and the probabilities that a champion gives for rows.

    Args:
        home: Where champions stand.
        name: The champion's study.
        rows: Column → value for each example, for a champion of tables; else each example's numbers, nested as its
            shape is.

    Returns:
        ``classes``, and for each row ``label`` and ``probabilities``, in the order of the classes.

    Raises:
        DataError: If the rows have another form.
        StorageError: If there is no such champion.
    """
    import numpy as np

    champion = _champion(home, name)
    if champion.form.kind == "table":
        with tempfile.TemporaryDirectory() as directory:
            path = _write_table(Path(directory) / "rows.csv", rows)
            probabilities = np.concatenate([champion.ask(features) for features in champion.file_features(path)])
    else:
        if champion.form.kind == "images":
            raise DataError(
                "This champion takes images, which JSON does not hold. Send an array or use caviar predict."
            )
        try:
            array = np.asarray(rows, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(f"Each row must be the numbers of one example, of shape {champion.form.shape}.") from error
        probabilities = champion.predict_proba(array)
    labels = champion.classes[probabilities.argmax(axis=1)].tolist()
    return {
        "classes": champion.classes.tolist(),
        "predictions": [
            {"label": label, "probabilities": row}
            for label, row in zip(labels, probabilities.astype(float).round(7).tolist(), strict=True)
        ],
    }


def predict_upload(home: Home, name: str, path: Path, output: Path, most_bytes: int) -> int:
    """Write what a champion says of an uploaded file's examples as CSV; return how many there were."""
    check_data_file(path, most_bytes)
    champion = str(champion_directory(home.champions / name))
    try:
        return predict_file(home, champion, path, output=output, results=io.StringIO())
    except DataError as error:  # the place of an upload means nothing to whom it came from
        raise DataError(str(error).replace(str(path), path.name)) from error


def _champion(home: Home, name: str) -> Champion:
    path = champion_directory(home.champions / name)
    stat = (path / DESCRIPTION).stat() if (path / DESCRIPTION).exists() else None
    return _loaded(path, None if stat is None else stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, _written_ns: int | None) -> Champion:
    return Champion(path)


def _write_table(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as a table's file, so that they are read as those of a file are; return the path."""
    if not all(isinstance(row, dict) for row in rows):
        raise DataError("Each row must be an object of column and value, for this champion takes a table.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([[_cell(name, row.get(name)) for name in columns] for row in rows])
    return path


def _cell(column: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise DataError(f"Column {column[:100]!r} must hold numbers and texts, but has {value!r}.")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _check_array(array: IO[bytes], name: str, *, size: int) -> None:
    """Refuse an array whose head says that it is larger than its file, or that it holds Python objects."""
    from numpy.lib import format as npy

    version = npy.read_magic(array)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(array)
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which are not loaded. Save numbers.")
    if math.prod(shape) * max(dtype.itemsize, 1) > size:
        raise DataError(f"{name} is cut off: its array should have {math.prod(shape)} numbers.")


def _check_image(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            n_pixels = math.prod(image.size)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} is not an image that can be read.") from error
    if n_pixels > _MOST_PIXELS:
        raise DataError(f"{path.name} has {n_pixels} pixels: at most {_MOST_PIXELS} are allowed.")


def _check_parquet(path: Path, *, most_bytes: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path)
    except pa.ArrowException as error:
        raise DataError(f"{path.name} cannot be read: {error}.") from error
    n_bytes = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    n_bytes = max(n_bytes, metadata.num_rows * metadata.num_columns)  # a value that is repeated takes hardly any
    if n_bytes > most_bytes or metadata.num_rows > _MOST_ROWS:
        raise DataError(f"{path.name} holds {metadata.num_rows} rows of {n_bytes} bytes: that is too much.")
