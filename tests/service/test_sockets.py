"""What only a real server meets: requests that contradict themselves, that never end, or that hide another."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.service.app import make_app
from caviar.service.settings import ServiceSettings
from caviar.storage.home import locate_home

from .asgi import listening


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ServiceSettings]]:
    home = locate_home(tmp_path_factory.mktemp("sockets") / "runs")
    settings = ServiceSettings(home=home, max_body_bytes=10_000, max_upload_bytes=100_000, body_timeout_s=0.5)
    with listening(make_app(settings)) as port:
        yield port, settings


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the server closes, or says no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):  # it may have refused and closed before it read everything
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65_536):
                answer += part
                if b"\r\n\r\n" in answer and b"error" in answer:
                    break
    return answer


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


OURS = ("Host: localhost", "X-Caviar: 1", "Content-Type: application/json")
POST = "POST /v1/asked HTTP/1.1"
CHUNK = b"2710\r\n" + b" " * 10_000 + b"\r\n"
WRONG = {
    "no host": (head("GET /v1/studies HTTP/1.1"), b"400"),
    "two hosts": (head("GET /v1/studies HTTP/1.1", "Host: localhost", "Host: evil.example"), b"400"),
    "an empty host": (head("GET /v1/studies HTTP/1.1", "Host: "), b"403"),
    "two lengths": (head(POST, *OURS, "Content-Length: 2", "Content-Length: 20") + b"{}", b"400"),
    "a length below zero": (head(POST, *OURS, "Content-Length: -1"), b"400"),
    "a length of text": (head(POST, *OURS, "Content-Length: ten"), b"400"),
    "a length beyond all": (head(POST, *OURS, f"Content-Length: {10**15}"), b"413"),
    "chunks that never end": (head(POST, *OURS, "Transfer-Encoding: chunked") + CHUNK * 3, b"413"),
    "a chunk without a size": (head(POST, *OURS, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", b"400"),
    "a body that does not come": (head(POST, *OURS, "Content-Length: 100") + b"{", b"408"),
    "an upload that does not come": (
        head("PUT /v1/uploads/a.csv HTTP/1.1", *OURS, "Content-Length: 100") + b"a,b",
        b"408",
    ),
    "an upload in chunks that is too large": (
        head("PUT /v1/uploads/b.csv HTTP/1.1", *OURS, "Transfer-Encoding: chunked") + CHUNK * 11,
        b"413",
    ),
    "headers without end": (head("GET /v1/studies HTTP/1.1", "Host: localhost", f"X: {'x' * 200_000}"), b"4"),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", b"400"),
    "an address for another server": (head("GET http://evil.example/ HTTP/1.1", "Host: evil.example"), b"4"),
    "a websocket": (
        head("GET /v1/studies HTTP/1.1", "Host: evil.example", "Upgrade: websocket", "Connection: Upgrade"),
        b"403",
    ),
}


@pytest.mark.parametrize("name", WRONG, ids=[name.replace(" ", "-") for name in WRONG])
def test_it_is_refused_and_nothing_is_left(served: tuple[int, ServiceSettings], name: str) -> None:
    port, settings = served
    request, status = WRONG[name]
    answer = exchange(port, request)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:300]
    assert b"Traceback" not in answer
    assert list(Path(settings.uploads).iterdir()) == []


def test_after_all_that_the_service_answers(served: tuple[int, ServiceSettings]) -> None:
    port, _ = served
    answer = exchange(port, head("GET /v1/studies/none HTTP/1.1", "Host: localhost", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 404")
