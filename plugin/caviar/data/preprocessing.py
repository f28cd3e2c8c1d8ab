"""From a table's columns to the numbers that a network takes, fitted on the training split alone."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, nearest_name
from .columns import Kind, as_numbers

if TYPE_CHECKING:
    import pandas as pd

#: So many categories of a column get an input of their own; the rarer ones share one.
MOST_CATEGORIES: Final = 64
#: Stands for a missing value of a category.
MISSING: Final = "(missing)"


class NewValues(NamedTuple):
    """Values of a column that were not in training."""

    n: int  # rows that have one
    row: int  # the first of them, from 0
    value: str | None  # what it has; None where a value is missing, and none was in training


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessing:
    """Turns rows of a table into features.

    Numbers are imputed with the median and standardised; a column with missing values in training gets an indicator
    too. Categories are one-hot. Rare and unknown ones share an input; if none was rare, unknown ones are all zeros.
    """

    kinds: Mapping[str, Kind]  # of each column, in the order of the table that it was fitted on
    transformer: Any  # scikit-learn's ColumnTransformer

    @classmethod
    def fit(cls, frame: "pd.DataFrame", kinds: Mapping[str, Kind], *, where: str) -> "Preprocessing":
        """Fit it on rows to train on."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        numbers = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
        )
        categories = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, min_frequency=2, sparse_output=False
        )
        transformer = ColumnTransformer(
            [
                ("numbers", numbers, [name for name, kind in kinds.items() if kind == "number"]),
                ("categories", categories, [name for name, kind in kinds.items() if kind == "category"]),
            ]
        )
        transformer.fit(_plain(frame, kinds, where=where))
        return cls(kinds=dict(kinds), transformer=transformer)

    def transform(
        self, frame: "pd.DataFrame", *, where: str, watch: Callable[[Mapping[str, NewValues]], None] | None = None
    ) -> NDArray[np.float32]:
        """Return rows as features, shape (n, k). Columns that training did not have are left out.

        ``watch`` is called first, with the columns that have values unknown in training.

        Raises:
            DataError: If a column is missing, or a column of numbers has anything else.
        """
        names = [str(name) for name in frame.columns]
        for name, kind in self.kinds.items():
            if kind != "ignore" and name not in names:
                raise DataError(f"{where}: column {name!r} is missing. {nearest_name(name, names)}")
        plain = _plain(frame, self.kinds, where=where)
        if watch is not None:
            watch(self._new_values(plain))
        features = self.transformer.transform(plain)
        return np.ascontiguousarray(features, dtype=np.float32)

    def _new_values(self, plain: "pd.DataFrame") -> dict[str, NewValues]:
        parts = self.transformer.named_transformers_
        numbers, categories = ([name for name, kind in self.kinds.items() if kind == k] for k in ("number", "category"))
        is_new = {}
        if numbers:
            had_missing = set(parts["numbers"][0].indicator_.features_.tolist())
            is_new = {name: plain[name].isna() for place, name in enumerate(numbers) if place not in had_missing}
        if categories:
            known = zip(categories, parts["categories"].categories_, strict=True)
            is_new |= {name: ~plain[name].isin(values) for name, values in known}
        found = {}
        for name in (name for name, rows in is_new.items() if rows.any()):
            first = int(is_new[name].to_numpy().argmax())
            value = plain[name].iloc[first]
            is_missing = name in numbers or value == MISSING
            found[name] = NewValues(int(is_new[name].sum()), first, None if is_missing else str(value))
        return found

    def save(self, path: Path) -> None:
        """Write it in a format that runs no code when it is loaded."""
        import skops.io

        skops.io.dump({"kinds": json.dumps(dict(self.kinds)), "transformer": self.transformer}, path)

    @classmethod
    def load(cls, path: Path) -> "Preprocessing":
        """Read what `save` wrote.

        Raises:
            DataError: If the file is missing, damaged, or not ours.
        """
        import skops.io

        try:
            parts = skops.io.load(path, trusted=["numpy.dtype"])
            return cls(kinds=json.loads(parts["kinds"]), transformer=parts["transformer"])
        except FileNotFoundError as error:
            raise DataError(f"There is no preprocessing {str(path)!r}.") from error
        except Exception as error:  # a broken archive raises what it likes
            raise DataError(f"The preprocessing {str(path)!r} cannot be read: {error}.") from error


def _plain(frame: "pd.DataFrame", kinds: Mapping[str, Kind], *, where: str) -> "pd.DataFrame":
    """Return the columns in use, as float64 or as texts, the same however a file was parsed."""
    import pandas as pd

    columns = {
        name: as_numbers(frame[name], where=where) if kind == "number" else _texts(frame[name])
        for name, kind in kinds.items()
        if kind != "ignore"
    }
    return pd.DataFrame(columns)


def _texts(column: "pd.Series[Any]") -> NDArray[np.object_]:
    """Return categories as texts, so that 3, "3" and 3.0 are the same one."""
    import pandas as pd

    codes, values = pd.factorize(column)  # -1 where a value is missing
    texts = np.array([*map(_text, values), MISSING], dtype=object)
    return np.asarray(texts[codes])


def _text(value: Any) -> str:
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text
    return str(int(number)) if number.is_integer() else str(number)
