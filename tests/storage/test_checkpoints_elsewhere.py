"""Checkpoints in a store that fsspec reaches: whole or not at all, the newest wins, and a store that is away."""

import logging
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.storage.test_checkpoints import checkpoint

from caviar.storage import remote
from caviar.storage.checkpoints import KEPT_WATCHED, CheckpointStore
from caviar.storage.places import parse_files
from caviar.storage.remote import RemotePath


@pytest.fixture(params=["memory", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> RemotePath:
    url = request.getfixturevalue(f"{request.param}_url")
    place = parse_files(f"{url}/{tmp_path.name}")
    assert isinstance(place, RemotePath)
    return place / "checkpoints" / "uid"


def there(directory: RemotePath, number: int) -> list[str]:
    return (directory / str(number)).names()


def loaded_epochs(directory: RemotePath, number: int = 0) -> int | None:
    """Return what a worker on another machine would go on from."""
    loaded = CheckpointStore(directory).load(number)
    return None if loaded is None else loaded.epochs


def test_another_worker_goes_on_from_the_newest_and_the_last_two_are_kept(directory: RemotePath) -> None:
    first, second = CheckpointStore(directory), CheckpointStore(directory)
    assert (first.load(3), first.numbers()) == (None, [])
    for epochs in (1, 2, 10):
        first.save(3, checkpoint(epochs))
    assert there(directory, 3) == ["00000002.ckpt", "00000010.ckpt"]
    loaded = second.load(3)
    assert loaded is not None
    assert (loaded.epochs, loaded.notes) == (10, checkpoint(10).notes)
    second.save(3, checkpoint(11))
    assert there(directory, 3) == ["00000010.ckpt", "00000011.ckpt"]
    assert second.numbers() == [3]


def test_a_trial_that_went_back_has_no_later_epochs(directory: RemotePath) -> None:
    store = CheckpointStore(directory)
    for epochs in (1, 2, 3, 4):
        store.save(0, checkpoint(epochs), keep=KEPT_WATCHED)
    assert store.epochs(0) == [1, 2, 3, 4]
    back = CheckpointStore(directory)
    assert back.load(0, epochs=3).epochs == 3  # type: ignore[union-attr]
    back.save(0, checkpoint(2))
    assert back.epochs(0) == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_torn_checkpoint_is_noticed_and_the_one_before_is_used(
    directory: RemotePath, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(directory)
    store.save(0, checkpoint(1))
    store.save(0, checkpoint(2))
    newest = directory / "0" / "00000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:200] if damage == "cut" else b"")
    assert loaded_epochs(directory) == 1
    assert "is torn" in caplog.text


def test_what_a_worker_did_not_write_stays_until_the_end_of_the_run(directory: RemotePath) -> None:
    first, second = CheckpointStore(directory), CheckpointStore(directory)
    for number in (0, 1):
        first.save(number, checkpoint(1))
    second.forget(0)
    assert second.numbers() == [0, 1]
    first.forget(0)
    second.remove(7)
    assert second.numbers() == [1]
    second.remove_all()
    assert (second.numbers(), loaded_epochs(directory, 1)) == ([], None)


@pytest.fixture
def away(memory_url: str, monkeypatch: pytest.MonkeyPatch) -> CheckpointStore:
    """A store that has a checkpoint and then goes away."""
    directory = RemotePath(memory_url, memory_url)
    store = CheckpointStore(directory)
    store.save(0, checkpoint(1))

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("https://ann:s3cret@store.example does not answer")

    for name in ("pipe_file", "ls", "cat_file", "rm", "rm_file"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), name, fail)
    return store


def test_a_store_that_is_away_raises_what_a_full_disk_does(away: CheckpointStore) -> None:
    with pytest.raises(OSError, match="does not answer") as failed:
        away.save(0, checkpoint(2))
    assert "s3cret" not in str(failed.value)


def test_a_trial_whose_checkpoints_cannot_be_read_starts_again(
    away: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert away.load(0) is None
    assert "so it starts again" in caplog.text
    away.forget(0)
    assert "could not be removed" in caplog.text
    assert "s3cret" not in caplog.text


def test_an_old_checkpoint_that_stays_is_no_trouble(memory_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RemotePath(memory_url, memory_url)
    store = CheckpointStore(directory)

    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "DeleteObject is not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.get_filesystem_class("memory"), "rm_file", fail)
        for epochs in (1, 2, 3):
            store.save(0, checkpoint(epochs))
    assert len(there(directory, 0)) == 3
    store.save(0, checkpoint(4))
    assert there(directory, 0) == ["00000003.ckpt", "00000004.ckpt"]


def test_a_store_that_hangs_costs_one_wait_and_one_warning(
    memory_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the worker calls is `TrialInHand.save`; the trials train on."""
    import threading

    from caviar.worker.trial_in_hand import TrialInHand

    released = threading.Event()
    monkeypatch.setattr(remote, "ANSWER_S", 0.05)
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", lambda *_, **__: released.wait())

    class Run:
        epochs = 1

        def notes(self) -> dict[str, Any]:
            return {}

    class Ticket:
        number = 5

    store = CheckpointStore(RemotePath(memory_url, memory_url))
    caplog.set_level(logging.WARNING)
    for _ in range(5):
        trial: Any = TrialInHand(ticket=Ticket(), run=Run(), lane=None, max_epochs=2)  # type: ignore[arg-type]
        trial.save(store, {})
    released.set()
    (warning,) = caplog.records
    assert "Could not write a checkpoint of trial 5, which trains on" in warning.getMessage()
    assert "no answer within" in warning.getMessage()
