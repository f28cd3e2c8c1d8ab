"""What stands below a path: which file system, how much room, and whether it can be written."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

#: Mounted file systems: where each begins, and its kind; a later one lies over an earlier one.
Mounts = Sequence[tuple[str, str]]

#: File systems whose files several hosts see. SQLite's locks are not to be relied on there, and its write-ahead log
#: needs memory that all its users share.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "mount-s3", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "pvfs2", "rclone", "s3fs", "smb2", "smb3", "smbfs", "sshfs", "gcsfuse", "wekafs"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """What is left for this user on a file system, which its device tells from others."""

    device: int
    free_bytes: int
    free_files: int | None  # None where it does not count them


def network_file_system(path: Path, *, mounts: Mounts | None = None) -> str | None:
    """Return the kind of network file system that a path stands on, such as ``nfs4``, or None for a local one.

    The path need not exist. Unless given, the mounts are this machine's.

    Source:
        sqlite.org/faq.html (5) on locks, sqlite.org/wal.html on shared memory.
    """
    if mounts is None:
        mounts = [(partition.mountpoint, partition.fstype) for partition in psutil.disk_partitions(all=True)]
    real = Path(os.path.realpath(path))
    found, depth = "", -1
    for place, kind in mounts:
        point = Path(place)
        if len(point.parts) >= depth and real.is_relative_to(point):  # of two mounts on one point the last one counts
            found, depth = kind, len(point.parts)
    return found if found.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS else None


def network_message(path: Path, kind: str) -> str:
    """Return what is wrong with an SQLite file on a network file system, in words."""
    return (
        f"{path} stands on a network file system ({kind}): SQLite's locks are not to be relied on there, and it serves "
        "one host in any case. PostgreSQL is the way: --storage postgresql+psycopg://user@host/database, or a local "
        "disk for workers of one host."
    )


def room_at(path: Path) -> Room:
    """Return what is left where a path stands, or would stand.

    Raises:
        OSError: If that cannot be told.
    """
    existing = nearest_existing(path)
    state = os.statvfs(existing)
    return Room(
        device=existing.stat().st_dev,
        free_bytes=state.f_bavail * state.f_frsize,
        free_files=state.f_favail if state.f_files else None,
    )


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest thing above it that exists."""
    absolute = path.absolute()
    return next(candidate for candidate in (absolute, *absolute.parents) if candidate.exists())


def can_be_written(path: Path) -> bool:
    """Tell whether a file, or a directory, could be written or created, without trying."""
    existing = nearest_existing(path)
    if existing != path.absolute() and not existing.is_dir():
        return False
    return os.access(existing, os.W_OK | (os.X_OK if existing.is_dir() else 0))
