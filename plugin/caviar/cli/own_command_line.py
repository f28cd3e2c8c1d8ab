"""What the system shows of this process's own command line."""

import contextlib
import ctypes
from pathlib import Path
from typing import Final

_ARGUMENTS_BEGIN: Final = 45  # fields after the program's name in /proc/self/stat: arg_start, and then arg_end


def hide_secrets() -> None:
    """Write over the passwords and tokens in this process's arguments, as the system shows them to all of its users.

    ``sys.argv`` keeps them. It works on Linux, as the clients of databases do it; elsewhere nothing happens. For a
    moment they were to be seen: ``CAVIAR_STORAGE`` and ``MLFLOW_TRACKING_URI`` never are.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/self/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        begin, end = (int(stat[_ARGUMENTS_BEGIN + place]) for place in (0, 1))
        shown = Path("/proc/self/cmdline").read_bytes()
        hidden = b"\0".join(_without_secrets(argument) for argument in shown.split(b"\0"))
        if hidden != shown and len(hidden) == len(shown) == end - begin:
            ctypes.memmove(begin, hidden, len(hidden))


def _without_secrets(argument: bytes) -> bytes:
    """Return an argument without its secrets, in as many bytes."""
    if b"://" not in argument:
        return argument
    from ..storage.addresses import masked

    hidden = masked(argument.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return hidden[: len(argument)].ljust(len(argument))
