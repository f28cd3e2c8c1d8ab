from pathlib import Path

import pytest

from caviar.data.catalogue import DatasetEntry, list_datasets
from caviar.data.prepare import prepare_dataset
from caviar.errors import DataError


def test_digits_is_listed_before_and_after_it_is_prepared(tmp_path: Path) -> None:
    (before,) = (entry for entry in list_datasets(tmp_path) if entry.name == "digits")
    directory = prepare_dataset("digits", data_dir=tmp_path)
    after = list_datasets(tmp_path)[0]
    known = {"name": "digits", "n_train": 1437, "n_test": 360, "n_classes": 10, "feature_shape": (8, 8, 1)}
    assert before == DatasetEntry(prepared=False, **known)  # type: ignore[arg-type]
    assert after == DatasetEntry(prepared=True, directory=directory, **known)  # type: ignore[arg-type]


def test_prepared_ones_come_first_and_each_name_once(tmp_path: Path) -> None:
    prepare_dataset("digits", data_dir=tmp_path)
    entries = list_datasets(tmp_path)
    names = [entry.name for entry in entries]
    assert names[0] == "digits"
    assert len(names) == len(set(names))
    assert {"mnist", "fashion_mnist", "iris", "emnist"} < set(names)
    assert not any(entry.prepared for entry in entries[1:])


def test_damaged_data_set_is_listed_and_loading_it_says_why(tmp_path: Path) -> None:
    directory = tmp_path / "broken" / "small" / "1.0.0"
    directory.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (directory / name).write_text("{")
    assert list_datasets(tmp_path)[0] == DatasetEntry(name="broken/small", prepared=True, directory=directory)
    from caviar.data.loading import load_dataset

    with pytest.raises(DataError, match="cannot be read"):
        load_dataset("broken/small", data_dir=tmp_path)


def test_directory_that_does_not_exist_has_nothing_prepared(tmp_path: Path) -> None:
    assert not any(entry.prepared for entry in list_datasets(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()
