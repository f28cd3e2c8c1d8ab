from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caviar.storage.checkpoints import Checkpoint, CheckpointStore


def checkpoint(epochs: int) -> Checkpoint:
    state: dict[str, Any] = {
        "epoch": np.array(epochs),
        "variable.0": np.full((3, 2), float(epochs), np.float32),
        "seed": np.uint64(7),
    }
    return Checkpoint(epochs=epochs, state=state, notes={"curves": {"loss": [0.5] * epochs}, "seconds": 1.5})


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def test_what_is_saved_is_loaded_and_the_last_two_are_kept(store: CheckpointStore, tmp_path: Path) -> None:
    assert store.load(3) is None
    for epochs in (1, 2, 10):
        store.save(3, checkpoint(epochs))
    loaded = store.load(3)
    assert loaded is not None
    assert (loaded.epochs, loaded.notes) == (10, checkpoint(10).notes)
    assert loaded.state.keys() == checkpoint(10).state.keys()
    np.testing.assert_array_equal(loaded.state["variable.0"], checkpoint(10).state["variable.0"])
    assert loaded.state["variable.0"].dtype == np.float32
    names = sorted(path.name for path in (tmp_path / "checkpoints" / "3").iterdir())
    assert names == ["00000002.ckpt", "00000010.ckpt"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_torn_checkpoint_is_noticed_and_the_one_before_is_used(
    store: CheckpointStore, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(0, checkpoint(1))
    store.save(0, checkpoint(2))
    path = tmp_path / "checkpoints" / "0" / "00000002.ckpt"
    contents = path.read_bytes()
    flipped = contents[:-9] + bytes([contents[-9] ^ 1]) + contents[-8:]
    path.write_bytes({"cut": contents[:200], "flipped": flipped, "empty": b"", "foreign": b"x" * 500}[damage])
    loaded = store.load(0)
    assert loaded is not None
    assert loaded.epochs == 1
    assert "is torn" in caplog.text


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(0, checkpoint(1))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            store.save(0, checkpoint(2))
    loaded = store.load(0)
    assert loaded is not None
    assert loaded.epochs == 1
    assert [path.name for path in (tmp_path / "checkpoints" / "0").iterdir()] == ["00000001.ckpt"]


def test_checkpoints_are_removed_by_trial_and_all_at_once(store: CheckpointStore) -> None:
    for number in (0, 1):
        store.save(number, checkpoint(1))
    store.remove(0)
    store.remove(0)
    assert (store.load(0), store.numbers()) == (None, [1])
    store.remove_all()
    assert store.numbers() == []
