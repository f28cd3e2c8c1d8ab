import hashlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import caviar.data.digits
from caviar.data.loading import load_dataset
from caviar.data.prepare import prepare_dataset
from caviar.engines.fork_server import start_fork_server

START_DEADLINE_S = 120.0


def hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tfds")
    prepare_dataset("digits", data_dir=path)
    return path


def test_tfds_load_finds_digits_once_the_module_is_imported(data_dir: Path) -> None:
    splits, info = tfds.load("digits", data_dir=data_dir, with_info=True, as_supervised=True)
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 1437, "test": 360}
    assert info.features["image"].shape == (8, 8, 1)
    image, label = next(iter(tfds.as_numpy(splits["train"])))
    assert image.shape == (8, 8, 1)
    assert image.dtype == np.uint8
    assert 0 <= label < 10


def test_tfds_load_prepares_digits_by_itself(tmp_path: Path) -> None:
    assert caviar.data.digits.Digits.name == "digits"
    assert len(tfds.load("digits", split="test", data_dir=tmp_path)) == 360


def test_splits_are_all_of_scikit_learns_digits_and_stratified(data_dir: Path) -> None:
    from sklearn.datasets import load_digits  # not in the racing processes, which import this module

    pixels, labels = load_digits(return_X_y=True)
    found: set[tuple[bytes, int]] = set()
    for split, share in (("train", 0.8), ("test", 0.2)):
        part = tfds.as_numpy(tfds.load("digits", split=split, data_dir=data_dir, batch_size=-1))
        assert part["image"].min() == 0
        assert part["image"].max() == 16
        assert np.all(np.abs(np.bincount(part["label"]) - np.bincount(labels) * share) < 1)
        found |= {(image.tobytes(), int(label)) for image, label in zip(part["image"], part["label"], strict=True)}
    expected = {(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(pixels, labels, strict=True)}
    assert found == expected


def test_preparing_twice_writes_the_same_bytes(data_dir: Path, tmp_path: Path) -> None:
    first = prepare_dataset("digits", data_dir=data_dir)
    second = prepare_dataset("digits", data_dir=tmp_path)
    assert hashes(first) == hashes(second)
    assert any("tfrecord" in name for name in hashes(first))


def test_records_do_not_follow_the_hash_seed_of_the_process(data_dir: Path) -> None:
    # Protobuf seeds its maps anew in every process; comparing two runs is not enough, since they may happen to agree.
    (path,) = (data_dir / "digits" / "1.0.0").glob("*-test.tfrecord-*")
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 360
    for record in records:
        assert record == tf.train.Example.FromString(record).SerializeToString(deterministic=True)
        assert record.index(b"image") < record.index(b"label")


def test_left_overs_of_a_killed_preparation_do_no_harm(tmp_path: Path) -> None:
    left_over = tmp_path / "digits" / "incomplete.ABCDEF_1.0.0"
    left_over.mkdir(parents=True)
    (left_over / "digits-train.tfrecord-00000-of-00001").write_bytes(b"half a rec")
    assert len(load_dataset("digits", data_dir=tmp_path).train.labels) == 1149


def _prepare_when_all_are_ready(data_dir: Path, own_dir: Path, barrier: Any, results: Any) -> None:
    prepared_alone = hashes(prepare_dataset("digits", data_dir=own_dir))
    barrier.wait(START_DEADLINE_S)
    dataset = load_dataset("digits", data_dir=data_dir)
    results.put((prepared_alone, hashes(data_dir / "digits" / "1.0.0"), dataset.fingerprint))


def _stop_in_the_middle(data_dir: Path, started: Any) -> None:
    def wait_for_the_end(*_: object) -> Iterator[Any]:
        started.set()
        signal.pause()
        raise AssertionError("it was to be killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caviar.data.digits.Digits, "_generate_examples", wait_for_the_end)
        prepare_dataset("digits", data_dir=data_dir)


@pytest.mark.slow
def test_processes_that_prepare_at_once_get_the_same_bytes_even_if_one_is_killed(tmp_path: Path) -> None:
    start_fork_server()  # which has TensorFlow loaded
    context = multiprocessing.get_context("forkserver")
    shared = tmp_path / "shared"
    started = context.Event()
    killed = context.Process(target=_stop_in_the_middle, args=(shared, started))
    barrier, results = context.Barrier(3), context.SimpleQueue()
    racers = [
        context.Process(target=_prepare_when_all_are_ready, args=(shared, tmp_path / f"own{i}", barrier, results))
        for i in range(2)
    ]
    try:
        for process in (killed, *racers):
            process.start()
        assert started.wait(START_DEADLINE_S)
        barrier.wait(START_DEADLINE_S)  # from here on the racers wait for the lock that the third one holds
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        for process in racers:
            process.join(START_DEADLINE_S)
            assert process.exitcode == 0
        first, second = results.get(), results.get()
    finally:
        for process in (killed, *racers):
            process.kill()
            process.join()
    assert first == second
    assert first[0] == first[1]
