import socket
import threading
from collections.abc import Iterator

import pytest

from caviar.data.network import unreachable_hosts


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.data.network.getproxies", dict)


def test_listening_host_is_reachable(port: int) -> None:
    assert unreachable_hosts([f"http://127.0.0.1:{port}/file"]) == []


def test_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert unreachable_hosts([f"http://127.0.0.1:{port}/file"]) == ["127.0.0.1"]


def test_stuck_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def look_up(*_: object, **__: object) -> socket.socket:
        let_go.wait(60)
        raise OSError("not found")

    monkeypatch.setattr(socket, "create_connection", look_up)
    assert unreachable_hosts(["https://a.example/x", "gs://bucket/y"], timeout_s=0.05) == [
        "a.example",
        "storage.googleapis.com",
    ]
    let_go.set()


def test_proxy_is_asked_in_place_of_the_host(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.data.network.getproxies", lambda: {"https": f"http://127.0.0.1:{port}"})
    monkeypatch.setattr("caviar.data.network.proxy_bypass", lambda host: False)
    assert unreachable_hosts(["https://nowhere.invalid/file"]) == []


def test_no_addresses_need_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    assert unreachable_hosts([]) == []
