"""Every use of TensorFlow Datasets' private parts.

Checked with tensorflow-datasets 4.9.10, below whose next minor version pyproject.toml is bound;
tests/data/test_tfds_private.py tries each. `Digits` also overrides ``_example_writer``, as nothing public orders
the features of a record.
"""

from collections.abc import Sequence
from pathlib import Path


def is_in_cache(url: str, checksum: str, *, directories: Sequence[Path]) -> bool:
    """Tell whether a download lies in one of TFDS' cache directories: it would try to download any other."""
    from tensorflow_datasets.core.download import resource

    file_name = resource.get_dl_fname(url, checksum)
    return any(resource.is_locally_cached(directory / file_name) for directory in directories)
