"""Where examples come from, behind one interface: TFDS data sets, functions, tables, arrays, and images."""

from pathlib import Path
from typing import Any, Protocol

from ..spec import DataSpec
from ..user_cache import user_cache
from .files import ArraysFile, ImageFolder, TableSource, refuse_needless
from .functions import FunctionSource
from .kept_arrays import KeptArrays
from .names import FileName, FunctionName, parse_name
from .prepare import prepare_dataset
from .prepared import PreparedDataset


class Source(Protocol):
    """Examples to train and to test on, as they come: arrays or DataFrames, not yet checked, labels not yet encoded."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes 0, 1, … where the source declares them."""

    @property
    def has_test(self) -> bool:
        """Whether the source holds out examples to test on."""

    def read_train(self) -> tuple[Any, Any]:
        """Return features and labels to train on."""

    def read_train_labels(self) -> Any:
        """Return the labels to train on."""

    def read_test(self) -> tuple[Any, Any]:
        """Return features and labels to test on; only where ``has_test``."""


def open_source(data: DataSpec, *, data_dir: Path | None = None) -> Source:
    """Return the source that a data set's description means, prepared if need be.

    Raises:
        DataError: If there is none, it cannot be prepared, or the description says what is for data of another kind.
    """
    name, parsed = data.dataset, parse_name(data.dataset)
    kind = parsed.kind if isinstance(parsed, FileName) else None
    if kind != "table":
        refuse_needless({"label": data.label, "test": data.test}, "tables", name=name)
    if kind != "images":
        refuse_needless({"image_size": data.image_size}, "directories of images", name=name)
    if isinstance(parsed, FileName):
        if kind == "table":
            test = None if data.test is None else Path(data.test).expanduser()
            return TableSource(parsed.path, label=data.label, test=test)
        if kind == "arrays":
            return ArraysFile(parsed.path)
        return ImageFolder(parsed.path, size=data.image_size, color=data.image_color)
    if isinstance(parsed, FunctionName):
        return FunctionSource(parsed)
    return PreparedDataset(prepare_dataset(name, data_dir=data_dir), kept=KeptArrays(user_cache() / "arrays"))
