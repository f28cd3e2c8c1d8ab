"""scikit-learn's handwritten digits as a TFDS data set: importing this module makes ``tfds.load("digits")`` work."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray

from .names import DIGITS_VERSION
from .split import stratified_cut

_DESCRIPTION = """
1,797 handwritten digits of 43 people, 8×8 pixels of 17 grey levels (0 is paper, 16 is ink): the test part of the UCI
data set, as scikit-learn ships it. It is cut here, stratified, into 1,437 for training and 360 for testing.
"""
_CITATION = """
@misc{misc_optical_recognition_of_handwritten_digits_80,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {{Optical Recognition of Handwritten Digits}},
  year = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}
"""


class Digits(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]  # TFDS ships no types
    """The builder named ``digits``. It needs no network, and its record files are the same on every run."""

    VERSION = tfds.core.Version(DIGITS_VERSION)
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  (TFDS declares it without ClassVar)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,  # the shorter self.dataset_info_from_configs() looks for a README, which a package lacks
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
        )

    def _example_writer(self) -> "_SortedExampleWriter":
        return _SortedExampleWriter(super()._example_writer())

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        from sklearn.datasets import load_digits  # scikit-learn takes a second, and is needed only to prepare

        pixels, labels = load_digits(return_X_y=True)
        images = pixels.reshape(-1, 8, 8, 1).astype(np.uint8)
        train, test = stratified_cut(labels.astype(np.int32), fraction=0.2, seed=0)
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(
        self, images: NDArray[np.uint8], labels: NDArray[np.int_], rows: NDArray[np.intp]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            yield int(row), {"image": images[row], "label": int(labels[row])}


class _SortedExampleWriter:
    """Writes each example with its features in the order of their names.

    TFDS serializes them in the order of protobuf's hash map, which each process seeds anew, so the record files of two
    runs would differ.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        """Write the serialized examples, each with its key, to a file."""
        import tensorflow as tf  # late, since only preparing needs it

        def sort(example: bytes) -> bytes:
            return bytes(tf.train.Example.FromString(example).SerializeToString(deterministic=True))

        return self._writer.write(path, ((key, sort(example)) for key, example in examples))
