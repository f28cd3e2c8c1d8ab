"""Every use of TensorFlow Datasets' private parts.

Checked with tensorflow-datasets 4.9.10; pyproject.toml allows no later minor version, and
tests/data/test_tfds_private.py tries each. `Digits` also overrides ``_example_writer``, since nothing public orders
the features of a record.
"""

from collections.abc import Sequence
from pathlib import Path


def is_in_cache(url: str, checksum: str, *, directories: Sequence[Path]) -> bool:
    """Return whether a download is in one of TFDS' cache directories; TFDS would download any other."""
    from tensorflow_datasets.core.download import resource

    file_name = resource.get_dl_fname(url, checksum)
    return any(resource.is_locally_cached(directory / file_name) for directory in directories)
