"""How much memory this process may still take."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")  # where the kernel shows control groups


def available_memory(*, groups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the bytes left of the machine's memory, or of a container's limit if that is less."""
    return min(int(psutil.virtual_memory().available), *_left_of_limits(groups, own))


def _left_of_limits(groups: Path, own: Path) -> Iterator[int]:
    """Give what is left of each limit that holds; a group's parents limit it too."""
    yield 1 << 62
    inside = ""
    with contextlib.suppress(OSError):
        inside = own.read_text(encoding="utf-8").rpartition("::/")[2].strip()
    group = groups / inside
    for directory in (group, *group.parents):
        if directory.is_relative_to(groups):
            yield from _left(directory, limit="memory.max", usage="memory.current", cache="inactive_file")
    yield from _left(
        groups / "memory", limit="memory.limit_in_bytes", usage="memory.usage_in_bytes", cache="total_inactive_file"
    )


def _left(directory: Path, *, limit: str, usage: str, cache: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max": no limit
        most, used = (int((directory / name).read_text(encoding="ascii")) for name in (limit, usage))
        stat = dict(line.split() for line in (directory / "memory.stat").read_text(encoding="ascii").splitlines())
        yield most - used + int(stat.get(cache, 0))  # what files keep is given up where it is needed
