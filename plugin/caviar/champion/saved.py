"""A champion in its directory: loaded, asked, and described."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.images import FORMATS, image_batches, is_image, read_image
from ..data.names import is_table
from ..data.preprocessing import NewValues, Preprocessing
from ..data.tables import read_table_parts
from ..errors import DataError, StorageError

if TYPE_CHECKING:
    import pandas as pd

#: The version of the directory's format.
FORMAT: Final = 1
NETWORK: Final = "network.keras"
PREPROCESSING: Final = "preprocessing.skops"
DESCRIPTION: Final = "champion.json"

#: Rows that a network takes at a time.
BATCH_ROWS: Final = 8192

Watch = Callable[[Mapping[str, NewValues]], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputForm:
    """What a champion takes.

    Attributes:
        kind: A table, an array, or images of any size, which are scaled.
        shape: Of one example's features, as the network takes it.
        dtype: Of the features.
        columns: Column → kind, for a table.
        image_size: Height and width, for images.
        image_color: ``rgb`` or ``grayscale``, for images.
    """

    kind: Literal["table", "array", "images"]
    shape: tuple[int, ...]
    dtype: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    image_color: str = "rgb"


class Champion:
    """The network that won, with all that it needs to predict.

    Attributes:
        path: Its directory.
        name: Its name.
        description: What ``champion.json`` says: data, configuration, figures, versions.
        classes: The classes' labels, as the data had them, in the order of the probabilities.
        form: What it takes.
    """

    def __init__(self, path: Path) -> None:
        """Read a champion's directory; the network itself is loaded when it is first asked.

        Raises:
            StorageError: If there is none, it is of another version, or damaged.
        """
        self.path = path
        try:
            self.description: dict[str, Any] = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
            version = self.description["format"]
        except FileNotFoundError as error:
            raise StorageError(
                f"There is no champion in {str(path)!r}: it has no {DESCRIPTION}. `caviar champion STUDY` makes one."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"The champion in {str(path)!r} is damaged: {DESCRIPTION} cannot be read.") from error
        if version != FORMAT:
            raise StorageError(
                f"The champion in {str(path)!r} has format {version}, and this version reads {FORMAT}. "
                "Use the version of optuna-caviar that made it, or make it anew with `caviar champion STUDY`."
            )
        self.name: str = self.description["name"]
        self.form = _form_of(self.description["input"])
        self.classes = labels_of_type(self.description["classes"], self.description["label_type"])
        self._model: Any = None
        self._preprocessing: Preprocessing | None = None

    def predict(self, x: "pd.DataFrame | NDArray[Any]") -> NDArray[Any]:
        """Return each example's label, shape (n,); see `predict_proba`."""
        return np.asarray(self.classes[self.predict_proba(x).argmax(axis=1)])

    def predict_proba(self, x: "pd.DataFrame | NDArray[Any]") -> NDArray[np.float32]:
        """Return each example's probabilities, shape (n, n_classes), in the order of ``classes``.

        Args:
            x: A DataFrame with the columns of training, in any order; or an array of the shape of training.

        Raises:
            DataError: If it has another form, or values that are no finite numbers.
        """
        self._load()
        features = self.features(x)
        parts = [self._ask(features[start : start + BATCH_ROWS]) for start in range(0, len(features), BATCH_ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def features(self, x: Any, *, where: str = "Input", watch: Watch | None = None) -> NDArray[Any]:
        """Return what the network takes for examples; see `predict_proba` and `Preprocessing.transform`."""
        if self.form.kind == "table":
            self._load_preprocessing()
            assert self._preprocessing is not None
            if not hasattr(x, "columns"):
                names = [name for name, kind in self.form.columns.items() if kind != "ignore"]
                raise DataError(f"{where}: this champion takes a table with the columns {', '.join(names)}.")
            return self._preprocessing.transform(x, where=where, watch=watch)
        return self._checked(x.to_numpy() if hasattr(x, "columns") else np.asarray(x), where=where)

    def file_features(self, path: Path, *, watch: Watch | None = None) -> Iterator[NDArray[Any]]:
        """Read a file, or a folder of images, part by part, as what the network takes.

        Args:
            path: A CSV or Parquet file, an ``.npy`` file, an ``.npz`` file with the array ``x``, an image, or a
                directory of images, which come in the order of their names.
            watch: For each part of a table called with the columns that have values which training did not have.

        Raises:
            DataError: If it cannot be read, or has another form than the champion takes.
        """
        where = f"Input {str(path)!r}"
        if is_table(path):
            for frame in read_table_parts(path):
                if self.form.kind != "table":
                    frame = _numbers(frame, where=where)
                yield self.features(frame, where=where, watch=watch)
        elif path.suffix.lower() in (".npy", ".npz"):
            array = _read_array(path, where=where)
            for start in range(0, len(array), BATCH_ROWS):
                yield self.features(array[start : start + BATCH_ROWS], where=where)
        elif path.is_dir() or is_image(path):
            yield from self._image_features(path, where=where)
        elif not path.exists():
            raise DataError(f"There is no {str(path)!r}.")
        else:
            raise DataError(
                f"{where} is none of what can be read: .csv, .tsv, .parquet, .npy, .npz, an image or a directory of "
                "images."
            )

    def ask(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities for features as `features` and `file_features` return them."""
        self._load()
        return self._ask(features)

    def network_function(self) -> Any:
        """Return the network as a concrete function of features as `features` returns them."""
        self._load()
        return self._model

    def _image_features(self, path: Path, *, where: str) -> Iterator[NDArray[Any]]:
        paths = sorted(filter(is_image, path.iterdir())) if path.is_dir() else [path]
        if not paths:
            raise DataError(f"{where} has no images in it.")
        if self.form.kind == "images":
            assert self.form.image_size is not None
            size, color = self.form.image_size, self.form.image_color
            for images in image_batches(paths, size=size, color=color, n=BATCH_ROWS // 8):
                yield self._checked(images, where=where)
            return
        if len(self.form.shape) < 2:
            raise DataError(f"{where} has images, but this champion takes rows of {self.form.shape[0]} numbers.")
        height, width, *channels = self.form.shape
        color = "rgb" if channels == [3] else "grayscale"
        for one in paths:
            actual = _image_size(one)
            if actual != (height, width):
                raise DataError(
                    f"Image {str(one)!r} has {actual[0]}×{actual[1]} pixels, but this champion takes {height}×{width}. "
                    "Scale it."
                )
            image = read_image(one, size=(height, width), color=color).reshape(1, *self.form.shape)
            yield self._checked(image, where=where)

    def _checked(self, array: NDArray[Any], *, where: str) -> NDArray[Any]:
        shape = self.form.shape
        if array.shape[1:] != shape:
            raise DataError(
                f"{where}: this champion takes examples of shape {shape}, so an array of shape (n, "
                f"{', '.join(map(str, shape))}), but got {array.shape}."
            )
        if array.dtype.kind not in "biuf":
            raise DataError(f"{where}: features must be numbers, but their dtype is {array.dtype}.")
        if array.dtype.kind == "f":
            fits = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if not fits.all():
                raise DataError(
                    f"{where}: features must be finite, but example {int(np.flatnonzero(~fits)[0])} (from 0) has "
                    "NaN or infinity."
                )
        if self.form.dtype == "uint8" and array.dtype != np.uint8:
            rounded = np.rint(array)
            if (rounded != array).any() or (rounded < 0).any() or (rounded > 255).any():
                raise DataError(f"{where}: pixels must be whole numbers from 0 to 255, as in training.")
        return np.ascontiguousarray(array, dtype=self.form.dtype)

    def _ask(self, features: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(self._model(_tensor(features)), np.float32)

    def _load_preprocessing(self) -> None:
        if self._preprocessing is None:
            self._preprocessing = Preprocessing.load(self.path / PREPROCESSING)

    def _load(self) -> None:
        if self._model is not None:
            return
        from ..engines.quiet import import_tensorflow_quietly

        import_tensorflow_quietly()
        import keras

        try:
            model = keras.saving.load_model(self.path / NETWORK, compile=False)
        except Exception as error:  # a broken archive raises what it likes
            raise StorageError(
                f"The network {str(self.path / NETWORK)!r} cannot be loaded: {str(error).splitlines()[0]}. "
                "If it has layers of your own, import their module first; else make the champion anew."
            ) from error
        self._model = compiled(model, self.form.shape, self.form.dtype)


def probabilities_of(model: Any, features: NDArray[Any]) -> NDArray[np.float32]:
    """Return what a network gives, some rows at a time."""
    ask = compiled(model, features.shape[1:], features.dtype.name)
    starts = range(0, len(features), BATCH_ROWS)
    return np.concatenate(
        [np.asarray(ask(_tensor(features[start : start + BATCH_ROWS])), np.float32) for start in starts]
    )


def compiled(model: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a concrete function that gives a network's probabilities for a tensor of rows, any number of them.

    Args:
        model: A keras.Model.
        shape: Of one row.
        dtype: Of the rows.
    """
    import tensorflow as tf

    takes = model.inputs[0].dtype if getattr(model, "inputs", None) else "float32"
    signature = [tf.TensorSpec([None, *shape], dtype)]
    # Without autograph, as Keras predicts: it writes source files, and a process that is killed leaves them behind.
    return tf.function(
        lambda rows: model(tf.cast(rows, takes), training=False), input_signature=signature, autograph=False
    ).get_concrete_function()


def _tensor(features: NDArray[Any]) -> Any:
    import tensorflow as tf

    return tf.constant(features)


def labels_of_type(names: list[str], label_type: str) -> NDArray[Any]:
    """Return classes as the data had them: texts, whole numbers or booleans."""
    if label_type == "integer":
        return np.array([int(name) for name in names])
    if label_type == "boolean":
        return np.array([name == "True" for name in names])
    return np.array(names)


def _form_of(table: Mapping[str, Any]) -> InputForm:
    size = table.get("image_size")
    return InputForm(
        kind=table["kind"],
        shape=tuple(table["shape"]),
        dtype=table["dtype"],
        columns=table.get("columns") or {},
        image_size=None if size is None else (size[0], size[1]),
        image_color=table.get("image_color") or "rgb",
    )


def _numbers(frame: "pd.DataFrame", *, where: str) -> NDArray[np.float64]:
    from ..data.columns import as_numbers

    return np.stack([as_numbers(frame[name], where=where) for name in frame.columns], axis=1)


def _read_array(path: Path, *, where: str) -> NDArray[Any]:
    import zipfile
    import zlib

    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        with np.load(path, allow_pickle=False) as file:
            name = next((name for name in ("x", "X", "x_test", "X_test") if name in file.files), None)
            if name is None:
                raise DataError(f"{where} must have an array x, but has {', '.join(file.files) or 'none'}.")
            return np.asarray(file[name])
    except FileNotFoundError as error:
        raise DataError(f"There is no {str(path)!r}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{where} cannot be read as an array: {error}") from error


def _image_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"Image {str(path)!r} cannot be read: {error}.") from error
