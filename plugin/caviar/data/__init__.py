"""Classification data sets as arrays: TFDS' own, prepared ones, and functions of the user's.

Importing this loads numpy, not TensorFlow. ``caviar.data.digits`` registers the builder of the digits with TFDS.
"""

from .catalogue import DatasetEntry, list_datasets
from .dataset import Dataset, Split
from .loading import load_dataset, load_test_split, make_dataset
from .prepare import prepare_dataset

__all__ = [
    "Dataset",
    "DatasetEntry",
    "Split",
    "list_datasets",
    "load_dataset",
    "load_test_split",
    "make_dataset",
    "prepare_dataset",
]
