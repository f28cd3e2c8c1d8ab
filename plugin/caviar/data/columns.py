"""A table's columns: their kinds, their numbers, and which of them look wrong."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, nearest_name

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "ignore"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_SAMPLE_ROWS: Final = 10_000
#: If at least this share of a text column's values are numbers, it is a column of numbers with mistakes in it.
_MOSTLY: Final = 0.9
#: A column with more distinct values than this, hardly any of them repeated, numbers or names the rows.
_FEW: Final = 50
#: A column gives the labels away if it alone predicts this share of those it was not fitted on.
_TOO_GOOD: Final = 0.995
_COLUMNS_NAMED: Final = 5


def infer_kinds(frame: "pd.DataFrame", *, given: Mapping[str, str], where: str) -> dict[str, Kind]:
    """Return each feature column's kind: numbers, or categories such as texts and booleans.

    The kinds that the user has given are taken as they are. Messages begin with ``where``.

    Raises:
        DataError: If a given column or kind does not exist, a column has dates, or a column of numbers has text in it.
            The message names the column and the row, and says what to do.
    """
    for name, kind in given.items():
        if name not in frame.columns:
            raise DataError(f"{where}: there is no column {name!r}. {nearest_name(name, map(str, frame.columns))}")
        if kind not in KINDS:
            raise DataError(f"{where}: column {name!r} cannot be {kind!r}. {nearest_name(kind, KINDS)}")
    kinds: dict[str, Any] = {}
    for name in map(str, frame.columns):
        kinds[name] = given.get(name) or _kind_of(frame[name], where=where)
        if kinds[name] == "number":
            as_numbers(frame[name], where=where)
    if not any(kind != "ignore" for kind in kinds.values()):
        raise DataError(f"{where}: no column is left to learn from.")
    return kinds


def as_numbers(column: "pd.Series[Any]", *, where: str) -> NDArray[np.float64]:
    """Return a column's numbers, NaN where a value is missing.

    Raises:
        DataError: If a value is not a finite number; the message names the column, the row and the value.
    """
    import pandas as pd

    numbers = np.asarray(pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan))
    bad = np.flatnonzero(np.isnan(numbers) & ~column.isna().to_numpy())
    if bad.size:
        raise DataError(
            f"{where}: column {str(column.name)!r} has numbers, but row {row_number(bad[0])} has "
            f"{column.iloc[bad[0]]!r}. "
            f'Correct the value or leave it empty, or set data.columns.{column.name} = "category".'
        )
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise DataError(
            f"{where}: column {str(column.name)!r} must be finite, but row {row_number(infinite[0])} has "
            f"{numbers[infinite[0]]}. Correct the value or leave it empty."
        )
    return numbers


def odd_columns(frame: "pd.DataFrame", labels: NDArray[np.int32], kinds: Mapping[str, Kind]) -> list[str]:
    """Return sentences about columns that are constant, that number the rows, or that give the labels away."""
    constant, ids, leaks = [], [], []
    sample = np.random.default_rng(0).permutation(len(frame))[:_SAMPLE_ROWS]
    for name in (name for name, kind in kinds.items() if kind != "ignore"):
        column = frame[name]
        n_different = int(column.nunique(dropna=False))
        if n_different < 2:
            constant.append(name)
        elif _names_rows(column, kinds[name], n_different):
            ids.append(name)
        elif _gives_away(column.iloc[sample], kinds[name], labels[sample]):
            leaks.append(name)
    told = []
    if constant:
        told.append(f"{_named(constant)} has the same value in every row, and teaches nothing.")
    if ids:
        told.append(
            f"{_named(ids)} has a different value in nearly every row. If it names the row, networks may learn it by "
            "heart."
        )
    if leaks:
        told.append(
            f"{_named(leaks)} gives nearly all labels by itself. Is it known before the label is? If not, set "
            f'data.columns.{leaks[0]} = "ignore".'
        )
    return told


def _kind_of(column: "pd.Series[Any]", *, where: str) -> Kind:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
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
    """Return whether a small tree, fitted on this column of half the rows, predicts the labels of the others."""
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


def row_number(position: int | np.intp) -> int:
    """Return a row's number as an editor or a spreadsheet shows it: the header is line 1."""
    return int(position) + 2


def _named(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {few([repr(name) for name in names])}"


def few(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    more = f" and {len(names) - _COLUMNS_NAMED} more" if len(names) > _COLUMNS_NAMED else ""
    return ", ".join(names[:_COLUMNS_NAMED]) + more
