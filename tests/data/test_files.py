from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caviar.data.loading import load_dataset, open_data
from caviar.errors import DataError
from caviar.spec import DataSpec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        for part, n in (("train", 6), ("test", 2)):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for number in range(n):
                pixels = generator.integers(0, 256, (9, 7, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / part / name / f"{number}.png")
    return tmp_path / "pets"


def test_a_folder_of_images_is_scaled_and_kept(folder: Path) -> None:
    spec = DataSpec(dataset=str(folder), image_size=(4, 5))
    data = open_data(spec)
    assert data.class_names == ("cats", "dogs")
    assert data.examples.features.shape == (12, 4, 5, 3)
    assert data.examples.features.dtype == np.uint8
    assert data.test(None).features.shape == (4, 4, 5, 3)
    np.testing.assert_array_equal(open_data(spec).examples.features, data.examples.features)
    grey = open_data(DataSpec(dataset=str(folder), image_size=(4, 5), image_color="grayscale"))
    assert grey.examples.features.shape == (12, 4, 5, 1)
    flat = open_data(DataSpec(dataset=str(folder / "train"), image_size=(4, 5)))  # a fifth is cut off to test on
    assert [len(flat.examples.labels), len(flat.test(None).labels)] == [9, 3]


def test_a_changed_image_is_read_anew(folder: Path) -> None:
    spec = DataSpec(dataset=str(folder), image_size=(9, 7))
    before = open_data(spec).fingerprint
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(folder / "train" / "cats" / "0.png")
    assert open_data(spec).fingerprint != before


def test_with_another_class_the_test_split_has_other_labels(folder: Path) -> None:
    spec = DataSpec(dataset=str(folder), image_size=(4, 5))
    before = open_data(spec).test(None).labels
    (folder / "train" / "ants").mkdir()
    for number in range(3):
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(folder / "train" / "ants" / f"{number}.png")
    assert open_data(spec).test(None).labels.tolist() == (before + 1).tolist()  # the names are sorted


def test_an_image_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "train" / "dogs" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dogs/0\.png' cannot be read"):
        open_data(DataSpec(dataset=str(folder), image_size=(4, 5)))
    with pytest.raises(DataError, match="Say to which size"):
        open_data(DataSpec(dataset=str(folder)))


def test_a_file_of_arrays(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2 + 5
    np.savez(tmp_path / "plain.npz", X=x, y=y)
    assert load_dataset(str(tmp_path / "plain.npz")).class_names == ("5", "6")
    np.savez(tmp_path / "split.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    data = open_data(DataSpec(dataset=str(tmp_path / "split.npz")))
    assert [len(data.examples.labels), len(data.test(None).labels)] == [20, 4]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "must have the arrays x and y, or x_train"),
        ({"x": np.array([{}], dtype=object), "y": np.zeros(1)}, "cannot be read as arrays"),
    ],
)
def test_a_file_of_other_arrays_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_dataset(str(tmp_path / "bad.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "nowhere.csv", "label": "a"}, "no file 'nowhere.csv'"),
        ({"dataset": "digits", "label": "a"}, "data.label is for tables, and 'digits' is none"),
        ({"dataset": "digits", "image_size": (2, 2)}, "data.image_size is for directories of images"),
        ({"dataset": "tests.toy_data:blobs", "columns": {"a": "number"}}, "data.columns is for tables"),
    ],
)
def test_what_is_said_of_another_kind_of_data_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(DataSpec(**options))
