"""A `caviar` in a process of its own that need not load what it runs with: it is forked from one that has loaded it.

To load TensorFlow takes most of a short run's time, and a run does it beside its own imports. What is tested after
that is the same: a process group, its own fork server, its workers, signals and exit codes. A light module: the fork
server of the tests imports it.
"""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from caviar.engines.fork_server import start_fork_server

_STDERR = 2


class WarmProcess:
    """A ``caviar`` in a session of its own, with the methods of ``subprocess.Popen`` that the tests use.

    Args:
        arguments: The verb and what follows it.
        directory: Where it works.
        environment: All of its environment.
        outputs: The files that its standard output and error are written to.
    """

    def __init__(
        self, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str], outputs: Sequence[str]
    ) -> None:
        start_fork_server()
        ours, its = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_be_caviar, args=(its, list(arguments), directory, dict(environment), list(outputs)), name="caviar"
        )
        self._process.start()
        its.close()
        with ours:
            ours.recv()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        self._process.join(timeout_s)
        exit_code = self._process.exitcode
        if exit_code is None:
            raise subprocess.TimeoutExpired("caviar", timeout_s or 0.0)
        return exit_code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _be_caviar(
    ready: Connection, arguments: list[str], directory: Path, environment: dict[str, str], outputs: list[str]
) -> None:
    os.setsid()
    for number, output in enumerate(outputs, 1):
        file = os.open(output, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.util.spawnv_passfds = _fork_server
    ready.send(None)
    ready.close()
    from caviar.cli import main

    main(arguments, prog_name="caviar")


def _fork_server(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """Start a fork server as multiprocessing does, but as a fork of this process: the modules are there."""
    del path  # the names are those of what this stands for
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as preloaded.py leaves it
        kept = {*range(_STDERR + 1), *passfds}
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if number not in kept:
                with contextlib.suppress(OSError):  # the one that listed them
                    os.close(number)
        exec(args[-1], {})  # what multiprocessing would give to `python -c`
    except SystemExit:
        pass
    finally:
        os._exit(0)
