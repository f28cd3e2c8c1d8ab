"""A real MLflow server on this machine, and a proxy before it that asks for a password, dawdles or is away."""

import contextlib
import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..ports import free_port


@contextlib.contextmanager
def mlflow_server(directory: Path, *, store: str, nice: int = 0) -> Iterator[int]:
    """Start `mlflow server` over a store, with its artifacts in a directory, and return its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1"]
    command += ["--artifacts-destination", str(directory / "served"), "--port", str(port), "--workers", "1"]
    switches = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["nice", "-n", str(nice), *command],
            env={**inherited, **switches},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for_health(port, process)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_health(port: int, process: subprocess.Popen[bytes], *, timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        assert process.poll() is None, "The MLflow server has ended."
        assert time.monotonic() < deadline_s, "The MLflow server did not start in time."
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.1)


class Proxy:
    """Passes requests on to a server, as far as it is told to.

    Attributes:
        accepted: The ``Authorization`` header that a request must have; None lets every request through.
        is_away: Whether connections are closed without an answer.
        open: While it is not set, requests wait.
        requests: Method and path of each request that came.
    """

    def __init__(self, port: int) -> None:
        self.accepted: str | None = None
        self.is_away = False
        self.open = threading.Event()
        self.open.set()
        self.requests: list[str] = []
        self.came = threading.Event()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.requests.append(f"{self.command} {self.path}")
                proxy.came.set()
                proxy.open.wait(60)
                if proxy.is_away:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if proxy.accepted is not None and self.headers.get("Authorization") != proxy.accepted:
                    self.answer(401, b"Unauthorized", {})
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
                connection.request(self.command, self.path, body=body, headers=headers)
                response = connection.getresponse()
                self.answer(response.status, response.read(), {"Content-Type": response.getheader("Content-Type", "")})
                connection.close()

            def answer(self, status: int, body: bytes, headers: dict[str, Any]) -> None:
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    for key, value in {**headers, "Content-Length": str(len(body))}.items():
                        self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815  (http.server's names)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
