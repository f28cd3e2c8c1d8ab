"""One side as one process: its wall time, and the peak memory of everything it starts."""

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

_POLL_S = 0.5
#: To read a process's memory takes 13 ms and holds it up: of five processes, twice a second, a tenth of a core.
_MEMORY_S = 2.0
_GRACE_S = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a process.

    Attributes:
        exit_code: Its exit code; negative where a signal ended it.
        begun: When it was started, seconds since 1970.
        wall_s: From its start to its end.
        peak_mb: The largest sum seen of the memory of the process and all its descendants, a page that several
            share counted once (PSS), in MB; looked at every two seconds.
        load_before: Load average of the last minute, before it was started.
        output: The end of what it printed, for an error's sake.
        stopped: Why it was stopped from here, or None.
    """

    exit_code: int
    begun: float
    wall_s: float
    peak_mb: float
    load_before: float
    output: str
    stopped: str | None = None

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        return next((line.strip()[:300] for line in reversed(self.output.splitlines()) if line.strip()), "no output")


def run_watched(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    until: Callable[[], bool] = lambda: False,
) -> Watched:
    """Run a command in a session of its own and watch it until it ends.

    Args:
        command: The program and its arguments.
        log: Where its output goes.
        environment: Variables added to this process's.
        timeout_s: Seconds after which it is stopped.
        until: Looked at twice a second; it is stopped once this is true.
    """
    load, begun, peak = os.getloadavg()[0], time.time(), 0.0
    stopped, wall, looked = None, 0.0, begun
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if time.time() - looked >= _MEMORY_S:
                    peak, looked = max(peak, _tree_mb(process.pid)), time.time()
                if stopped is None and (until() or time.time() - begun > timeout_s):
                    stopped = (
                        "the target is reached" if time.time() - begun <= timeout_s else f"after {timeout_s:.0f} s"
                    )
                    process.send_signal(signal.SIGINT)
                    wall = time.time() - begun
                if stopped is not None and time.time() - begun - wall > _GRACE_S:
                    _kill_tree(process.pid)
                try:
                    process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                _kill_tree(process.pid)
                process.wait()
    return Watched(
        exit_code=process.returncode,
        begun=begun,
        wall_s=wall if stopped is not None else time.time() - begun,
        peak_mb=peak,
        load_before=load,
        output=log.read_text(encoding="utf-8", errors="replace")[-2000:],
        stopped=stopped,
    )


def _tree_mb(pid: int) -> float:
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended meanwhile
            continue
    return total / 1e6


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill_tree(pid: int) -> None:
    for process in _tree(pid):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
