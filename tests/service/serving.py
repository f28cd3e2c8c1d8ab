"""A real `caviar serve` in a process of its own."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

_START_S = 60.0


@dataclasses.dataclass(frozen=True)
class Server:
    """A service that answers.

    Attributes:
        address: Where it is.
        token: What it has shown, if it made one.
        pid: Its process.
    """

    address: str
    token: str | None
    pid: int

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=headers, timeout=30, trust_env=False)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def serving_caviar(home: Path, *options: str, port: int = 0) -> Iterator[Server]:
    """Serve a home until the block ends; from when it answers."""
    command = [sys.executable, "-m", "caviar", "serve", "--home", str(home), "--port", str(port), "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = threading.Timer(_START_S, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        server = Server(address=said["address"], token=said["token"], pid=process.pid)
        with server.client(Host="localhost") as client:
            client.get("/login")  # the socket listens before the service is ready
        deadline.cancel()
        yield server
    finally:
        deadline.cancel()
        process.send_signal(signal.SIGTERM)  # which a process that has ended does not get
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
