"""Tables in CSV and Parquet files, with one column of labels; the others are features."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ..errors import DataError, nearest_name
from .columns import few, row_number

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> "pd.DataFrame":
    """Read a whole table.

    Raises:
        DataError: If it cannot be read, has no rows, or its rows differ in length.
    """
    with _told(path):
        table = pa.parquet.read_table(path) if is_parquet(path) else pa.csv.read_csv(path, **_csv_options(path))
    if not table.num_rows:
        raise DataError(f"Table {str(path)!r} has no rows.")
    return _frame(table, path)


def read_table_parts(path: Path, *, rows: int = 65_536) -> "Iterator[pd.DataFrame]":
    """Read a table part by part, in the order of its rows, so that any number of them fits in memory.

    The columns of a CSV file are texts, since the type of the first rows must not depend on later ones. Its parts have
    as many rows as fit in 4 MiB; those of a Parquet file have at most ``rows``.

    Raises:
        DataError: As `read_table`.
    """
    n_rows = 0
    with _told(path), contextlib.ExitStack() as opened:
        if is_parquet(path):
            # By its default, arrow reads whole row groups ahead: often a million rows each.
            file = opened.enter_context(pa.parquet.ParquetFile(path, buffer_size=1 << 18, pre_buffer=False))
            batches = file.iter_batches(batch_size=rows)
        else:
            options = _csv_options(path, column_types=dict.fromkeys(_header(path), pa.string()), block_size=1 << 22)
            batches = opened.enter_context(pa.csv.open_csv(path, **options))
        for batch in batches:
            n_rows += batch.num_rows
            yield _frame(pa.Table.from_batches([batch]), path)
    if not n_rows:
        raise DataError(f"Table {str(path)!r} has no rows.")


def take_labels(frame: "pd.DataFrame", label: str | None, *, where: str) -> "tuple[pd.DataFrame, NDArray[Any]]":
    """Return a table's features and labels, as numpy has them; raise DataError if a label is missing."""
    names = [str(name) for name in frame.columns]
    if label is None:
        raise DataError(f'{where}: which column has the labels? Set data.label = "…". Columns: {few(names)}.')
    if label not in names:
        raise DataError(f"{where}: there is no column {label!r} for the labels. {nearest_name(label, names)}")
    if len(names) < 2:
        raise DataError(f"{where}: the table has the column {label!r} alone, and nothing to learn from.")
    return frame.drop(columns=[label]), labels_of(frame[label], where=where)


def labels_of(column: "pd.Series[Any]", *, where: str) -> NDArray[Any]:
    """Return labels as integers, booleans or texts; raise DataError if one is missing, or a fraction."""
    missing = np.flatnonzero(column.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"{where}: each row needs a label, but row {row_number(missing[0])} has none in {str(column.name)!r}, "
            f"as have {len(missing)} of {len(column)} rows. Drop these rows or label them."
        )
    values = column.to_numpy()
    if values.dtype.kind == "f":
        broken = np.flatnonzero(values != np.rint(values))
        if broken.size:
            raise DataError(
                f"{where}: labels name classes, but row {row_number(broken[0])} has {values[broken[0]]} in "
                f"{str(column.name)!r}. Regression is not supported; if these are classes, make them whole or texts."
            )
        return np.asarray(values, np.int64)
    return np.asarray(values if values.dtype.kind in "biu" else values.astype(np.str_))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no table {str(path)!r}.") from error
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"Table {str(path)!r} cannot be read: {message}. Correct it, or save it anew.") from error


def _csv_options(path: Path, *, column_types: Any = None, block_size: int = 1 << 24) -> dict[str, Any]:
    names = _header(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"Table {str(path)!r} has two columns named {twice!r}. Rename one.")
    return {
        # With one thread, messages name the row.
        "read_options": pa.csv.ReadOptions(use_threads=False, block_size=block_size),
        "parse_options": pa.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        # "true" stays a text, as it does if all columns are read as texts.
        "convert_options": pa.csv.ConvertOptions(
            strings_can_be_null=True, true_values=[], false_values=[], column_types=column_types
        ),
    }


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file, delimiter=_delimiter(path)), [])
    if not names:
        raise DataError(f"Table {str(path)!r} is empty.")
    return names


def is_parquet(path: Path) -> bool:
    """Return whether a file has the name of a Parquet file."""
    return path.suffix.lower() in (".parquet", ".pq")


def _delimiter(path: Path) -> str:
    """Return the usual delimiter that is most frequent in the first line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return max(",;\t|", key=first.count)


def _frame(table: pa.Table, path: Path) -> "pd.DataFrame":
    for field in table.schema:
        if pa.types.is_binary(field.type):
            values = table[field.name].to_pylist()
            row = next(i for i, value in enumerate(values) if value and value.decode(errors="ignore").encode() != value)
            raise DataError(
                f"Table {str(path)!r}: column {field.name!r} is not UTF-8, the first time in row {row_number(row)}: "
                f"{values[row]!r}. Save the table as UTF-8."
            )
    return table.to_pandas()
