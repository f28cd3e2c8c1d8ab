"""Where arrays come from, behind one interface: prepared TFDS data sets and functions."""

from pathlib import Path
from typing import Any, Protocol

from ..user_cache import user_cache
from .functions import FunctionSource
from .kept_arrays import KeptArrays
from .names import FunctionName, parse_name
from .prepare import prepare_dataset
from .prepared import PreparedDataset


class Source(Protocol):
    """Arrays to train and to test on, as they come: not yet checked, labels not yet encoded."""

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


def open_source(name: str, *, data_dir: Path | None = None) -> Source:
    """Return the source that a data set's name means, prepared if need be.

    Raises:
        DataError: If there is none, or it cannot be prepared.
    """
    parsed = parse_name(name)
    if isinstance(parsed, FunctionName):
        return FunctionSource(parsed)
    return PreparedDataset(prepare_dataset(name, data_dir=data_dir), kept=KeptArrays(user_cache() / "arrays"))
