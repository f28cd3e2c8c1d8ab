"""Files appear whole or not at all, and what a killed writer leaves is removed, that of a living one never."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.atomic_write import leftovers, write_whole, written_whole

WRITER = """if True:
    import sys
    from pathlib import Path
    from caviar.atomic_write import written_whole
    with written_whole(Path(sys.argv[1])) as beside:
        beside.write_text("half")
        print("writing", flush=True)
        sys.stdin.read()
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_as_a_whole_and_its_directory_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_whole(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    with written_whole(path, durable=False) as beside:
        assert (beside.name, path.read_bytes()) == ("file.txt", "é".encode())
        beside.write_bytes(b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    write_whole(tmp_path / "file", "before")

    def fail() -> None:
        with written_whole(tmp_path / "file") as beside:
            beside.write_text("half")
            beside.with_name("file-wal").write_text("its log")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "file").read_text() == "before"
    assert names(tmp_path) == ["file"]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "other")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_a_killed_writer_s_leftovers_go_with_the_next_file_and_a_living_one_s_stay(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    write_whole(tmp_path / "file", "one")
    assert len(names(tmp_path)) == 2
    assert leftovers(tmp_path) == []
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(leftovers(tmp_path)) == 1
    write_whole(tmp_path / "file", "two")
    assert names(tmp_path) == ["file"]


def test_what_another_host_writes_counts_as_left_after_a_day(tmp_path: Path) -> None:
    here = socket.gethostname()
    foreign = tmp_path / f".caviar-writes~not-{here}~{os.getpid()}~00"
    foreign.mkdir()
    assert leftovers(tmp_path) == []
    os.utime(foreign, (1, 1))
    assert leftovers(tmp_path) == [foreign]
    assert leftovers(tmp_path / "missing") == []
