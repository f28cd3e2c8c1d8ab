import gzip
import hashlib
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.download import resource

from caviar.data.catalogue import list_datasets
from caviar.data.loading import load_dataset, load_test_split
from caviar.data.prepare import prepare_dataset
from caviar.errors import DataError

FILES = [
    f"{part}-ubyte.gz" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuses every connection, and lists those tried by anything but the probe."""
    tried: list[Any] = []

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError("no network in tests")

    def record(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", record)
    monkeypatch.setattr(socket.socket, "connect_ex", record)
    return tried


@pytest.fixture
def idx_files() -> Path:
    root = os.environ.get("CAVIAR_BENCH_DATA")
    if not root:
        pytest.skip("CAVIAR_BENCH_DATA is unset: it names the directory that has fashion_mnist/ with the idx files")
    path = Path(root) / "fashion_mnist"
    if not all((path / name).is_file() for name in FILES):
        pytest.skip(f"{path} does not hold the four idx files of Fashion-MNIST")
    return path


def read_idx(path: Path, *, offset: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=offset)


def fill_download_cache(data_dir: Path, files: Path, names: list[str]) -> None:
    """Puts files where TFDS keeps downloads, as it would after a download."""
    cache = data_dir / "downloads"
    cache.mkdir(parents=True, exist_ok=True)
    for url, info in tfds.builder_cls("fashion_mnist").url_infos.items():
        if info.filename in names:
            path = tfds.core.Path(cache / resource.get_dl_fname(url, info.checksum))
            shutil.copy(files / info.filename, path)
            resource.write_info_file(
                url=url, path=path, dataset_name="fashion_mnist", original_fname=info.filename, url_info=info
            )


def rows(images: NDArray[np.uint8]) -> list[bytes]:
    return sorted(hashlib.sha256(image.tobytes()).digest() for image in images)


@pytest.mark.parametrize("name", ["mnist", "emnist/letters", "iris", "mnist:3.0.1"])
def test_unprepared_data_set_without_network_is_refused_before_tfds_tries(
    no_network: list[Any], tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match="caviar datasets prepare") as caught:
        load_dataset(name, data_dir=tmp_path)
    assert "cannot be reached" in str(caught.value)
    assert str(tmp_path / "downloads") in str(caught.value)
    assert no_network == []
    assert list(tmp_path.iterdir()) == []


def test_data_set_to_be_downloaded_by_hand_says_how(no_network: list[Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"by hand.*manual_dir should contain two files"):
        prepare_dataset("imagenet2012", data_dir=tmp_path)
    assert no_network == []


def test_manual_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no directory"):
        prepare_dataset("mnist", data_dir=tmp_path, manual_dir=tmp_path / "missing")


def test_wrong_file_in_the_manual_directory_is_refused(no_network: list[Any], tmp_path: Path) -> None:
    manual = tmp_path / "manual"
    manual.mkdir()
    for name in FILES:
        (manual / name).write_bytes(gzip.compress(b"not these"))
    with pytest.raises(DataError, match=r"could not be prepared.*checksum"):
        prepare_dataset("fashion_mnist", data_dir=tmp_path / "tfds", manual_dir=manual)
    assert not (tmp_path / "tfds" / "fashion_mnist" / "3.0.1").exists()
    assert no_network == []


def test_directory_that_cannot_be_written_to_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written to.*Set TFDS_DATA_DIR"):
        load_dataset("digits", data_dir=tmp_path / "file" / "tfds")


def test_bucket_as_data_dir_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/tfds")
    with pytest.raises(DataError, match="TFDS_DATA_DIR must be a directory on this machine"):
        load_dataset("digits")


def test_prepared_data_set_is_not_prepared_again_unless_forced(tmp_path: Path) -> None:
    directory = prepare_dataset("digits", data_dir=tmp_path)
    assert directory == tmp_path / "digits" / "1.0.0"
    mark = directory / "mark"
    mark.touch()
    assert prepare_dataset("digits", data_dir=tmp_path) == directory
    assert prepare_dataset(str(directory)) == directory
    assert mark.exists()
    assert prepare_dataset("digits", data_dir=tmp_path, force=True) == directory
    assert not mark.exists()
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_failed_forced_preparation_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_dataset("digits", data_dir=tmp_path)

    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("caviar.data.digits.Digits._split_generators", fail)
    with pytest.raises(DataError, match="RuntimeError: no such luck"):
        prepare_dataset("digits", data_dir=tmp_path, force=True)
    assert len(load_dataset("digits", data_dir=tmp_path).train.labels) == 1149


def test_function_needs_no_preparing() -> None:
    with pytest.raises(DataError, match="needs no preparing"):
        prepare_dataset("package.module:function")


def test_preparing_prints_nothing_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_dataset("digits", data_dir=tmp_path)
    assert capsys.readouterr() == ("", "")


def test_half_filled_download_cache_without_network_is_refused(
    no_network: list[Any], idx_files: Path, tmp_path: Path
) -> None:
    fill_download_cache(tmp_path, idx_files, FILES[1:])
    with pytest.raises(DataError, match="cannot be reached"):
        load_dataset("fashion_mnist", data_dir=tmp_path)
    assert no_network == []


@pytest.fixture
def few_examples(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of each split's examples Fashion-MNIST's builder gives: writing all 70,000 takes a minute."""
    few, builder = 2_000, tfds.builder_cls("fashion_mnist")
    generate = builder._generate_examples

    def generate_few(self: Any, *, num_examples: int, **files: Any) -> Any:
        return generate(self, num_examples=min(few, num_examples), **files)

    monkeypatch.setattr(builder, "_generate_examples", generate_few)
    return few


@pytest.mark.slow
def test_fashion_mnist_is_prepared_offline_from_files_and_from_the_cache(
    no_network: list[Any], idx_files: Path, few_examples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand, cached = tmp_path / "by_hand", tmp_path / "cached"
    # The trap: what TFDS extracted from another data set's file of the same name.
    other = by_hand / "downloads" / "extracted" / "GZIP.train-images-idx3-ubyte.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(16 + 60_000 * 28 * 28))
    prepare_dataset("fashion_mnist", data_dir=by_hand, manual_dir=idx_files)
    fill_download_cache(cached, idx_files, FILES)
    datasets = [load_dataset("fashion_mnist", data_dir=data_dir) for data_dir in (by_hand, cached)]

    assert datasets[0].fingerprint == datasets[1].fingerprint
    assert no_network == []
    assert capsys.readouterr().out == ""
    assert datasets[0].train.features.shape == (few_examples * 4 // 5, 28, 28, 1)
    assert len(datasets[0].validation.labels) == few_examples // 5
    assert datasets[0].class_names[0] == "T-shirt/top"
    images = read_idx(idx_files / FILES[0], offset=16).reshape(60_000, 28, 28, 1)[:few_examples]
    assert rows(images) == rows(np.concatenate([datasets[0].train.features, datasets[0].validation.features]))
    test = load_test_split("fashion_mnist", data_dir=by_hand)
    assert np.array_equal(
        np.bincount(test.labels), np.bincount(read_idx(idx_files / FILES[3], offset=8)[:few_examples])
    )
    (entry,) = (entry for entry in list_datasets(by_hand) if entry.prepared)
    assert (entry.name, entry.n_train, entry.n_test) == ("fashion_mnist", few_examples, few_examples)
