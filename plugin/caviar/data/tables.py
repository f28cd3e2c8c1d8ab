"""Tables: CSV and Parquet files and DataFrames, with one column of labels and the others as features."""

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, nearest_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["number", "category", "ignore"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

#: File names that a table may end in.
SUFFIXES: Final = (".csv", ".tsv", ".parquet", ".pq")

_SAMPLE_ROWS: Final = 10_000
#: A text column in which this share of the values are numbers is a column of numbers with mistakes in it.
_MOSTLY: Final = 0.9
#: More different texts than this, each hardly ever repeated, name rows rather than classes of rows.
_FEW: Final = 50
#: A column that alone predicts this share of labels it was not fitted on gives them away.
_TOO_GOOD: Final = 0.995
_COLUMNS_NAMED: Final = 5


def is_parquet(path: Path) -> bool:
    """Tell whether a file's name is that of a Parquet file."""
    return path.suffix.lower() in (".parquet", ".pq")


def is_table(path: Path) -> bool:
    """Tell whether a file's name is that of a table."""
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path) -> "pd.DataFrame":
    """Read a whole table.

    Raises:
        DataError: If it cannot be read, has no rows, or its rows do not have the same number of columns.
    """
    import pyarrow.csv
    import pyarrow.parquet

    with _told(path):
        if is_parquet(path):
            table = pyarrow.parquet.read_table(path)
        else:
            table = pyarrow.csv.read_csv(path, **_csv_options(path))
    if not table.num_rows:
        raise DataError(f"Table {str(path)!r} has no rows.")
    return _frame(table, path)


def read_table_parts(path: Path, *, rows: int = 65_536) -> "Iterator[pd.DataFrame]":
    """Read a table part by part, in the order of its rows, so that any number of them fits in memory.

    The columns of a CSV file come as texts: what comes later does not matter for the type of what came before.

    Args:
        path: The file.
        rows: At most so many at a time; a CSV file's parts have as many as fit in 4 MiB.

    Raises:
        DataError: As `read_table`.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    n_rows = 0
    with _told(path):
        if is_parquet(path):
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows):
                    n_rows += batch.num_rows
                    yield _frame(pa.Table.from_batches([batch]), path)
        else:
            texts = {name: pa.string() for name in _header(path)}
            with pyarrow.csv.open_csv(path, **_csv_options(path, column_types=texts, block_size=1 << 22)) as reader:
                for batch in reader:
                    n_rows += batch.num_rows
                    yield _frame(pa.Table.from_batches([batch]), path)
    if not n_rows:
        raise DataError(f"Table {str(path)!r} has no rows.")


def infer_kinds(frame: "pd.DataFrame", *, given: Mapping[str, str], where: str) -> dict[str, Kind]:
    """Return what kind each feature column is of: numbers, or categories such as texts and booleans.

    Args:
        frame: The features, without the label.
        given: Kinds that the user states; these are believed.
        where: Names the data in messages.

    Raises:
        DataError: If a given column or kind does not exist, if a column has dates, or if a column of numbers has text
            in it: with the column, the row and the ways on.
    """
    import pandas as pd

    for name, kind in given.items():
        if name not in frame.columns:
            raise DataError(f"{where}: there is no column {name!r}. {nearest_name(name, map(str, frame.columns))}")
        if kind not in KINDS:
            raise DataError(f"{where}: column {name!r} cannot be {kind!r}. {nearest_name(kind, KINDS)}")
    kinds: dict[str, Kind] = {}
    for name in map(str, frame.columns):
        column = frame[name]
        if name in given:
            kinds[name] = given[name]  # type: ignore[assignment]  # checked above
        elif pd.api.types.is_bool_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype):
            kinds[name] = "category"
        elif pd.api.types.is_numeric_dtype(column):
            kinds[name] = "number"
        else:
            kinds[name] = _kind_of_objects(column, where=where)
        if kinds[name] == "number":
            as_numbers(column, where=where)
    if not any(kind != "ignore" for kind in kinds.values()):
        raise DataError(f"{where}: no column is left to learn from.")
    return kinds


def as_numbers(column: "pd.Series[Any]", *, where: str) -> NDArray[np.float64]:
    """Return a column's numbers, NaN where a value is missing.

    Raises:
        DataError: If a value is no number, naming column, row and value.
    """
    import pandas as pd

    numbers = np.asarray(pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan))
    bad = np.flatnonzero(np.isnan(numbers) & ~column.isna().to_numpy())
    if bad.size:
        raise DataError(
            f"{where}: column {str(column.name)!r} has numbers, but row {_row(bad[0])} has {column.iloc[bad[0]]!r}. "
            f'Correct the value or leave it empty, or set data.columns.{column.name} = "category".'
        )
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise DataError(
            f"{where}: column {str(column.name)!r} must be finite, but row {_row(infinite[0])} has "
            f"{numbers[infinite[0]]}. Correct the value or leave it empty."
        )
    return numbers


def take_labels(frame: "pd.DataFrame", label: str | None, *, where: str) -> "tuple[pd.DataFrame, NDArray[Any]]":
    """Return the features of a table, and its column of labels as numpy has them.

    Raises:
        DataError: If there is no such column, or a label is missing.
    """
    names = [str(name) for name in frame.columns]
    if label is None:
        raise DataError(f'{where}: which column has the labels? Set data.label = "…". Columns: {_few(names)}.')
    if label not in names:
        raise DataError(f"{where}: there is no column {label!r} for the labels. {nearest_name(label, names)}")
    if len(names) < 2:
        raise DataError(f"{where}: the table has the column {label!r} alone, and nothing to learn from.")
    return frame.drop(columns=[label]), labels_of(frame[label], where=where)


def labels_of(column: "pd.Series[Any]", *, where: str) -> NDArray[Any]:
    """Return labels as integers, booleans or texts.

    Raises:
        DataError: If one is missing, or they are numbers that are not whole.
    """
    missing = np.flatnonzero(column.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"{where}: each row needs a label, but row {_row(missing[0])} has none in {str(column.name)!r}, as have "
            f"{len(missing)} of {len(column)} rows. Drop these rows or label them."
        )
    values = column.to_numpy()
    if values.dtype.kind == "f":
        broken = np.flatnonzero(values != np.rint(values))
        if broken.size:
            raise DataError(
                f"{where}: labels name classes, but row {_row(broken[0])} has {values[broken[0]]} in "
                f"{str(column.name)!r}. Regression is not supported; if these are classes, make them whole or texts."
            )
        return np.asarray(values, np.int64)
    labels: NDArray[Any] = values if values.dtype.kind in "biu" else values.astype(np.str_)
    return labels


def odd_columns(frame: "pd.DataFrame", labels: NDArray[np.int32], kinds: Mapping[str, Kind]) -> list[str]:
    """Return a sentence for every column that is constant, names rows, or gives the label away.

    Args:
        frame: Features to train on.
        labels: Their classes, shape (n,).
        kinds: Of the columns.
    """
    found: dict[str, list[str]] = {"constant": [], "id": [], "leak": []}
    sample = np.random.default_rng(0).permutation(len(frame))[:_SAMPLE_ROWS]
    for name, kind in kinds.items():
        if kind == "ignore":
            continue
        column = frame[name]
        n_different = int(column.nunique(dropna=False))
        if n_different < 2:
            found["constant"].append(name)
        elif _names_rows(column, kind, n_different):
            found["id"].append(name)
        elif _gives_away(column.iloc[sample], kind, labels[sample]):
            found["leak"].append(name)
    ends = {
        "constant": "the same value in every row, and teaches nothing",
        "id": "a different value in nearly every row. If it names the row, networks may learn it by heart",
        "leak": "nearly all labels by itself. Is it known before the label is",
    }
    return [
        f"{_named(names)} {'gives' if kind == 'leak' else 'has'} {ends[kind]}"
        + (f'? If not, set data.columns.{names[0]} = "ignore".' if kind == "leak" else ".")
        for kind, names in found.items()
        if names
    ]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no table {str(path)!r}.") from error
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"Table {str(path)!r} cannot be read: {message}. Correct it, or save it anew.") from error


def _csv_options(path: Path, *, column_types: Any = None, block_size: int = 1 << 24) -> dict[str, Any]:
    from pyarrow import csv as arrow_csv

    names = _header(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"Table {str(path)!r} has two columns named {twice!r}. Rename one.")
    return {
        # With one thread, messages have the number of the row.
        "read_options": arrow_csv.ReadOptions(use_threads=False, block_size=block_size),
        "parse_options": arrow_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        # "true" stays a text, which it is where columns are read as texts.
        "convert_options": arrow_csv.ConvertOptions(
            strings_can_be_null=True, true_values=[], false_values=[], column_types=column_types
        ),
    }


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file, delimiter=_delimiter(path)), [])
    if not names:
        raise DataError(f"Table {str(path)!r} is empty.")
    return names


def _delimiter(path: Path) -> str:
    """Return which of the usual delimiters stands most often in the first line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return max(",;\t|", key=first.count)


def _frame(table: "pa.Table", path: Path) -> "pd.DataFrame":
    import pyarrow as pa

    for field in table.schema:
        if pa.types.is_binary(field.type):
            values = table[field.name].to_pylist()
            row = next(i for i, value in enumerate(values) if value is not None and not _is_utf8(value))
            raise DataError(
                f"Table {str(path)!r}: column {field.name!r} is not UTF-8, the first time in row {_row(row)}: "
                f"{values[row]!r}. Save the table as UTF-8."
            )
    return table.to_pandas()


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _kind_of_objects(column: "pd.Series[Any]", *, where: str) -> Kind:
    import pandas as pd

    present = column.dropna()
    if pd.api.types.is_datetime64_any_dtype(column) or (len(present) and hasattr(present.iloc[0], "isoformat")):
        raise DataError(
            f"{where}: column {str(column.name)!r} has dates. Turn them into numbers that mean something to your "
            "classes (the year, the month, days since an event), or set "
            f'data.columns.{column.name} = "ignore".'
        )
    if len(present) and pd.to_numeric(present, errors="coerce").notna().mean() >= _MOSTLY:
        return "number"
    return "category"


def _names_rows(column: "pd.Series[Any]", kind: Kind, n_different: int) -> bool:
    n = len(column)
    if n_different <= _FEW or n_different < 0.95 * n:
        return False
    if kind == "category":
        return True
    values = column.to_numpy(np.float64, na_value=np.nan)
    steps = np.diff(np.sort(values))
    return bool((values == np.rint(values)).all() and (steps == 1).mean() > 0.95)  # 1, 2, 3 …


def _gives_away(column: "pd.Series[Any]", kind: Kind, labels: NDArray[np.int32]) -> bool:
    """Tell whether a small tree on this column alone predicts the labels of rows that it was not fitted on."""
    from sklearn.tree import DecisionTreeClassifier

    if kind == "number":
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = column.astype("category").cat.codes.to_numpy(np.float64)
    values = np.nan_to_num(values.reshape(-1, 1), nan=-1e30)
    half = len(labels) // 2
    if half < _FEW or len(np.unique(labels[:half])) < 2:
        return False
    tree = DecisionTreeClassifier(max_leaf_nodes=256, random_state=0).fit(values[:half], labels[:half])
    share = np.bincount(labels).max() / len(labels)
    return bool(tree.score(values[half:], labels[half:]) > max(_TOO_GOOD, (1 + share) / 2))


def _row(position: int | np.intp) -> int:
    """Return a row's number as an editor or a spreadsheet shows it: the header is line 1."""
    return int(position) + 2


def _named(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {_few([repr(name) for name in names])}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _COLUMNS_NAMED} more" if len(names) > _COLUMNS_NAMED else ""
    return ", ".join(names[:_COLUMNS_NAMED]) + more
