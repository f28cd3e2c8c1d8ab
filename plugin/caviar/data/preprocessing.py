"""From a table's columns to the numbers that a network takes, fitted on the training split alone."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, nearest_name
from .tables import Kind, as_numbers

if TYPE_CHECKING:
    import pandas as pd

#: Categories of a column that get an input of their own; the rarer ones share one.
MOST_CATEGORIES: Final = 64
#: Stands for a missing value of a category.
MISSING: Final = "(missing)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessing:
    """Turns rows of a table into features.

    Numbers are imputed with the median, standardised, and get an indicator where values were missing in training.
    Categories are one-hot; rare ones share an input, which unknown ones get too, or all zeros where none was rare.

    Attributes:
        kinds: Each column's kind, in the order of the table that it was fitted on.
        transformer: scikit-learn's ColumnTransformer.
    """

    kinds: Mapping[str, Kind]
    transformer: Any

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

    def transform(self, frame: "pd.DataFrame", *, where: str) -> NDArray[np.float32]:
        """Return rows as features, shape (n, k). Columns that training did not have are left out.

        Raises:
            DataError: If a column is missing, or a column of numbers has anything else.
        """
        names = [str(name) for name in frame.columns]
        for name, kind in self.kinds.items():
            if kind != "ignore" and name not in names:
                raise DataError(f"{where}: column {name!r} is missing. {nearest_name(name, names)}")
        features = self.transformer.transform(_plain(frame, self.kinds, where=where))
        return np.ascontiguousarray(features, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write it in a format that executes nothing when it is loaded."""
        import skops.io

        skops.io.dump({"kinds": json.dumps(dict(self.kinds)), "transformer": self.transformer}, path)

    @classmethod
    def load(cls, path: Path) -> "Preprocessing":
        """Read what `save` wrote.

        Raises:
            DataError: If the file is damaged, or holds what is not ours.
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
    """Return the columns that are used, as float64 or as texts, so that it does not matter how a file was parsed."""
    import pandas as pd

    columns = {
        name: as_numbers(frame[name], where=where) if kind == "number" else _texts(frame[name])
        for name, kind in kinds.items()
        if kind != "ignore"
    }
    return pd.DataFrame(columns)


def _texts(column: "pd.Series[Any]") -> NDArray[np.object_]:
    """Return categories as texts, the same ones however a file was parsed: 3, "3" and 3.0 are one category."""
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
