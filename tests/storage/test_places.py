"""Files here and elsewhere: one contract over a directory, ``file://``, memory and an S3 server."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from caviar.errors import StorageError
from caviar.storage import remote
from caviar.storage.home import address_home, locate_home, prepare_home
from caviar.storage.places import (
    Place,
    address_of,
    artifact_store,
    check_writable,
    local_copy,
    parse_files,
    remove_tree,
    rename,
    write_at,
    written_at,
)
from caviar.storage.remote import RemotePath, StoreRestsError, _Connection

STORES = ["directory", "file", "memory", "s3"]


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return parse_files(f"{request.getfixturevalue('s3_url')}/{tmp_path.name}")
    if request.param == "memory":
        return parse_files(request.getfixturevalue("memory_url"))
    return parse_files(str(tmp_path / "files") if request.param == "directory" else (tmp_path / "files").as_uri())


def test_files_are_written_read_moved_and_removed(place: Place) -> None:
    write_at(place / "networks" / "a" / "0.keras", b"first")
    write_at(place / "networks" / "a" / "0.keras", "Zürich")
    with written_at(place / "networks" / "a" / "1.keras") as beside:
        beside.write_bytes(b"second")
    assert (place / "networks" / "a" / "0.keras").read_bytes().decode() == "Zürich"
    rename(place / "networks" / "a", place / "networks" / "b")
    assert not (place / "networks" / "a").exists()
    with local_copy(place / "networks" / "b" / "1.keras") as file:
        assert (file.name, file.read_bytes()) == ("1.keras", b"second")
    (place / "networks" / "b" / "1.keras").unlink()
    (place / "networks" / "b" / "1.keras").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (place / "networks" / "b" / "1.keras").read_bytes()
    for _ in range(2):
        remove_tree(place / "networks" / "b")
        assert not (place / "networks" / "b").exists()


def test_a_file_that_was_not_finished_is_not_there(place: Place) -> None:
    def write_half() -> None:
        with written_at(place / "0.keras") as beside:
            beside.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert not (place / "0.keras").exists()


def test_a_name_that_looks_like_a_pattern_reaches_nothing_else(place: Place) -> None:
    for name in ("*", "a[b]?", "50%", "plain"):
        write_at(place / name / "0", name)
    remove_tree(place / "*")
    rename(place / "a[b]?", place / "c[d]?")
    assert (place / "c[d]?" / "0").read_bytes() == b"a[b]?"
    if isinstance(place, RemotePath):
        assert place.names() == ["50%", "c[d]?", "plain"]


def test_optuna_dashboards_artifacts_stand_there(place: Place, tmp_path: Path) -> None:
    from optuna.artifacts.exceptions import ArtifactNotFound

    store = artifact_store(place / "artifacts")
    (tmp_path / "page.html").write_bytes(b"page")
    with (tmp_path / "page.html").open("rb") as file:
        store.write("id", file)
    with store.open_reader("id") as reader:
        assert reader.read() == b"page"
    store.remove("id")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("id")


def test_a_place_is_sent_to_other_processes_and_its_address_is_read_back(place: Place) -> None:
    assert pickle.loads(pickle.dumps(place)) == place
    assert parse_files(address_of(place)) == place


def test_a_home_whose_files_are_elsewhere_is_prepared(place: Place, tmp_path: Path) -> None:
    home = locate_home(tmp_path / "home", files=address_of(place))
    prepare_home(home, study="toy")
    assert (home.checkpoints, home.reports) == (place / "checkpoints", place / "reports")
    assert home.mlflow_artifacts == tmp_path / "home" / "mlartifacts"
    if isinstance(place, RemotePath):
        assert place.names() == []


def test_files_are_in_the_home_unless_something_else_is_said(tmp_path: Path) -> None:
    assert locate_home(tmp_path).files == locate_home(tmp_path, files="").files == tmp_path
    assert parse_files("memory://") == parse_files("memory://caviar")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s4://bucket/x", "fsspec knows no protocol 's4'.*s3"),
        ("file://host/x", "three slashes"),
        ("s3://", "must be one address with a bucket"),
        ("simplecache::s3://bucket/x", "must be one address"),
        ("s3://bucket/*", "without any of"),
        ("smb://ann:s3cret@host/x", r"'smb://ann:\*\*\*@host/x' needs a package that is not installed.*smbprotocol"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_the_way_out(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        locate_home(tmp_path, files=address)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_protocol: str) -> None:
        raise ImportError("No module named 's3fs'")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(StorageError, match=r"Install s3fs to access S3 \(pip install 'optuna-caviar\[s3\]'\)"):
        locate_home(tmp_path, files="s3://bucket/x")


def test_a_store_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, s3_url: str) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x cannot be written: there is no such .*bucket"):
        prepare_home(locate_home(tmp_path / "home", files="s3://no-such-bucket/x"))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot be written.*--files"):
        prepare_home(locate_home(tmp_path / "home", files=str(tmp_path / "file")))


def test_passwords_are_never_shown() -> None:
    place = RemotePath("sftp://ann:s3cret@host/x", "sftp://ann:s3cret@host/x") / "reports"
    home = address_home(Path("home"), files="sftp://ann:s3cret@host/x")
    assert "s3cret" not in f"{place} {place!r} {home!r} {home.reports}"
    with pytest.raises(StorageError) as refused:
        check_writable(RemotePath("unknown://ann:s3cret@host/x", "unknown://ann:s3cret@host/x"))
    assert "s3cret" not in str(refused.value)


class Store(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store without a request that writes a file whole: another machine's disk."""

    protocol = "disk"
    files: dict[str, bytes] = {}  # noqa: RUF012
    log: list[str] = []  # noqa: RUF012
    fails: BaseException | None = None

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        self.log.append(f"write {path.rpartition('/')[2].partition('~')[0]}")
        self.files[path] = value
        if self.fails is not None:
            raise self.fails

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        self.log.append(f"move to {path2.rpartition('/')[2]}")
        self.files[path2] = self.files.pop(path1)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    def exists(self, path: str, **_: Any) -> bool:
        return path in self.files

    def rm_file(self, path: str) -> None:
        del self.files[path]


def test_where_no_request_writes_a_file_whole_it_is_written_beside_and_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("disk", Store, clobber=True)
    place = RemotePath("disk://files/a", "disk://files")
    place.write_bytes(b"1")
    assert Store.log == ["write .a", "move to a"]
    monkeypatch.setattr(Store, "fails", OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        place.write_bytes(b"2")
    assert list(Store.files.values()) == [b"1"]


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


def connection(clock: list[float]) -> _Connection:
    return _Connection(clock=lambda: clock[0])


def test_what_hangs_is_given_up_and_not_tried_again_for_a_while(clock: list[float]) -> None:
    answers, connected = threading.Event(), connection(clock)
    with pytest.raises(OSError, match="no answer within 0 s"):
        connected.call(answers.wait, seconds=0.01, subject="s3://b/x")
    with pytest.raises(StoreRestsError, match="no answer within 0 s; it is tried again later"):
        connected.call(lambda: 1, seconds=1.0, subject="s3://b/x")
    clock[0] = remote._REST_S + 1
    assert connected.call(lambda: 1, seconds=1.0, subject="s3://b/x") == 1
    answers.set()


@pytest.mark.parametrize(
    ("error", "match"),
    [(ValueError("https://ann:s3cret@host: refused."), r"https://\*\*\*@host: refused"), (OSError(13, "No."), "No")],
)
def test_what_fails_quickly_may_be_tried_again_and_what_fails_slowly_may_not(
    clock: list[float], error: Exception, match: str
) -> None:
    connected = connection(clock)

    def fail_after(seconds: float) -> Callable[[], None]:
        def fail() -> None:
            clock[0] += seconds
            raise error

        return fail

    for seconds in (0.1, 10.0):
        with pytest.raises(OSError, match=match) as failed:
            connected.call(fail_after(seconds), seconds=5.0, subject="s3://b/x")
        assert not isinstance(failed.value, StoreRestsError)
    with pytest.raises(StoreRestsError):
        connected.call(lambda: 1, seconds=5.0, subject="s3://b/x")
