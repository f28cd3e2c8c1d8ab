from pathlib import Path

import psutil
import pytest

from caviar.memory import available_memory

GIGABYTE = 1 << 30


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n", encoding="ascii")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "self"
    path.write_text("0::/pod/box\n", encoding="ascii")
    return path


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, own: Path) -> None:
    write(tmp_path / "cg/pod/box", memory__max="max", memory__current="5", memory__stat="inactive_file 0")
    assert 0 < available_memory(groups=tmp_path / "cg", own=own) <= psutil.virtual_memory().total
    assert available_memory(groups=tmp_path / "none", own=tmp_path / "none") > 0


def test_the_tightest_group_around_the_process_counts_and_files_in_memory_do_not(tmp_path: Path, own: Path) -> None:
    groups = tmp_path / "cg"
    write(groups / "pod/box", memory__max=str(GIGABYTE), memory__current="1000", memory__stat="inactive_file 0")
    write(groups / "pod", memory__max="5000", memory__current="2000", memory__stat="anon 1\ninactive_file 500")
    assert available_memory(groups=groups, own=own) == 3500


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path) -> None:
    write(
        tmp_path / "memory",
        memory__limit_in_bytes="4000",
        memory__usage_in_bytes="1000",
        memory__stat="total_inactive_file 10",
    )
    assert available_memory(groups=tmp_path, own=tmp_path / "none") == 3010
