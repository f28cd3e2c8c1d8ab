"""One test for each use of a private part of TensorFlow Datasets: it fails by name when upstream moves."""

from pathlib import Path

import pytest
from tensorflow_datasets.core.download import checksums, resource

from caviar.data.digits import Digits
from caviar.data.tfds_private import is_in_cache

URL, CHECKSUM = "https://example.org/images.gz", "0" * 64


def test_a_download_in_the_cache_is_found(tmp_path: Path) -> None:
    assert not is_in_cache(URL, CHECKSUM, directories=[tmp_path / "a", tmp_path])
    path = tmp_path / resource.get_dl_fname(URL, CHECKSUM)
    path.write_bytes(b"images")
    info = checksums.UrlInfo(size=6, checksum=CHECKSUM, filename="images.gz")
    resource.write_info_file(URL, path, "images", "images.gz", info)
    assert is_in_cache(URL, CHECKSUM, directories=[tmp_path / "a", tmp_path])


@pytest.mark.slow
def test_a_builder_writes_examples_by_its_example_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Digits] = []
    make = Digits._example_writer

    def example_writer(builder: Digits) -> object:
        called.append(builder)
        return make(builder)

    monkeypatch.setattr(Digits, "_example_writer", example_writer)
    Digits(data_dir=str(tmp_path)).download_and_prepare()
    assert called
