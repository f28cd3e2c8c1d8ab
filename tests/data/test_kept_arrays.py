import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caviar.data import kept_arrays
from caviar.data.kept_arrays import Arrays, KeptArrays, key_of
from caviar.data.loading import load_dataset
from caviar.data.prepare import prepare_dataset
from caviar.data.prepared import PreparedDataset

ARRAYS = Arrays(features=np.arange(24, dtype=np.uint8).reshape(6, 2, 2), labels=np.array([0, 1, 0, 1, 0, 1]))


def test_what_is_kept_is_what_was_saved(tmp_path: Path) -> None:
    kept = KeptArrays(tmp_path / "arrays")
    assert kept.load("a") is None
    kept.save("a", ARRAYS)
    loaded = kept.load("a")
    assert loaded is not None
    for part, expected in zip(loaded, ARRAYS, strict=True):
        assert part.dtype == expected.dtype
        np.testing.assert_array_equal(part, expected)
    assert kept.load("b") is None
    assert [path.suffix for path in (tmp_path / "arrays").iterdir()] == [".npz"]


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "a directory"])
def test_a_damaged_file_is_none(tmp_path: Path, harm: str) -> None:
    kept = KeptArrays(tmp_path)
    kept.save("a", ARRAYS)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if harm == "a directory":
        path.unlink()
        path.mkdir()
    elif harm == "flipped":
        content[content.index(bytes(range(24))) + 5] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: 0 if harm == "emptied" else len(content) // 2])
    assert kept.load("a") is None


def test_what_would_be_executed_or_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptArrays(tmp_path)
    kept.save("a", ARRAYS._replace(labels=np.array([b"x"] * 6, dtype=object)))
    monkeypatch.setattr(kept_arrays, "MOST_BYTES", 10)
    kept.save("b", ARRAYS)
    assert not list(tmp_path.iterdir())


def test_what_was_read_longest_ago_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptArrays(tmp_path)
    for name in "abc":
        kept.save(name, ARRAYS)
        os.utime(kept._path(name), (time.time() - 3600,) * 2)
    assert kept.load("a") is not None  # so that it is the newest
    os.utime(kept._path("b"), (time.time() - 60 * 86_400,) * 2)
    kept.save("d", ARRAYS)
    assert [kept.load(name) is not None for name in "abcd"] == [True, False, True, True]  # b was left for two months
    size = kept._path("a").stat().st_size
    os.utime(kept._path("c"), (time.time() - 3600,) * 2)
    monkeypatch.setattr(kept_arrays, "MOST_BYTES_IN_ALL", 3 * size)
    kept.save("e", ARRAYS)
    assert [kept.load(name) is not None for name in "acde"] == [True, False, True, True]


def test_a_directory_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = KeptArrays(tmp_path / "file")
    kept.save("a", ARRAYS)
    assert kept.load("a") is None


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared data set of its own."""
    return Path(shutil.copytree(prepare_dataset("digits"), tmp_path / "digits"))


def test_a_split_is_decoded_once_and_again_when_its_files_change(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptArrays(tmp_path / "arrays")
    straight = PreparedDataset(prepared).read_train()
    first = PreparedDataset(prepared, kept=kept).read_train()
    with monkeypatch.context() as patch:
        patch.setattr(PreparedDataset, "_decode", lambda *_: pytest.fail("decoded again"))
        second = PreparedDataset(prepared, kept=kept).read_train()
    for parts in zip(straight, first, second, strict=True):
        assert all(part.dtype == parts[0].dtype and (part == parts[0]).all() for part in parts)
    os.utime(next(prepared.glob("*train*")), (1, 1))
    monkeypatch.setattr(PreparedDataset, "_decode", lambda *_: ARRAYS)
    assert PreparedDataset(prepared, kept=kept).read_train() is ARRAYS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file whose bytes are no data set's."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "toy-train.tfrecord").write_bytes(b"0123")
    return tmp_path / "source"


def remake(source: Path) -> None:
    """Put another file of the same name, size and time of change there, as a copy that keeps times does."""
    file = source / "toy-train.tfrecord"
    facts = file.stat()
    file.write_bytes(b"4567")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def lengthen(source: Path) -> None:
    (source / "toy-train.tfrecord").write_bytes(b"01234")


def touch(source: Path) -> None:
    os.utime(source / "toy-train.tfrecord", (1, 1))


def rename(source: Path) -> None:
    (source / "toy-train.tfrecord").rename(source / "toy-test.tfrecord")


def add(source: Path) -> None:
    (source / "features.json").touch()


@pytest.mark.parametrize("change", [remake, lengthen, touch, rename, add])
def test_a_kept_split_depends_on_the_files_of_its_source(source: Path, change: Callable[[Path], None]) -> None:
    key = key_of(source, "train")
    assert key_of(source, "train") == key
    change(source)
    assert key_of(source, "train") != key


def test_a_kept_split_depends_on_where_its_source_stands_and_on_what_is_read(source: Path) -> None:
    assert len({key_of(source, *parts) for parts in (["train"], ["test"], ["train", "label"])}) == 3
    copy = Path(shutil.copytree(source, source.with_name("copy")))
    assert key_of(copy, "train") != key_of(source, "train")


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("tensorflow_datasets.__version__", "another"),
        ("importlib.metadata.version", lambda _name: "another"),
        ("caviar.data.prepared.sources_digest", lambda *_: "another"),
    ],
)
def test_a_kept_split_depends_on_who_decoded_it(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, value: Any
) -> None:
    kept = KeptArrays(tmp_path / "arrays")
    data = PreparedDataset(prepared, kept=kept)
    data.read_train()
    monkeypatch.setattr(PreparedDataset, "_decode", lambda *_: ARRAYS)
    assert data.read_train() is not ARRAYS
    monkeypatch.setattr(target, value)
    assert data.read_train() is ARRAYS


def test_one_kept_split_serves_every_seed_and_share_of_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = [len(load_dataset("digits", validation_fraction=share).validation.labels) for share in (0.2, 0.5)]
    assert sizes[0] < sizes[1]
    first, other = (load_dataset("digits", seed=seed).train.labels for seed in (0, 1))
    assert (first != other).any()
    assert len(list((tmp_path / "optuna-caviar" / "arrays").iterdir())) == 1


def test_data_sets_are_the_same_from_their_files_and_as_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoded, kept = load_dataset("digits"), load_dataset("digits")
    assert len(list((tmp_path / "optuna-caviar" / "arrays").iterdir())) == 1
    assert kept.fingerprint == decoded.fingerprint
    np.testing.assert_array_equal(kept.train.features, decoded.train.features)
