"""A way to a server that can be cut, as a network can: at once and noticed, or in silence."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import sqlalchemy


class Proxy:
    """Passes what it is sent on to a server, both ways, until it is cut.

    Args:
        host: Of the server.
        port: Of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        self._refuses = False
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def cut(self, *, silent: bool = False) -> None:
        """Pass nothing on any more: close all connections and refuse new ones or, in silence, let all of them hang."""
        self._open.clear()
        if not silent:
            self._refuses = True
            self._close_all()

    def mend(self) -> None:
        """Pass on what comes, and what was held back."""
        self._refuses = False
        self._open.set()

    def close(self) -> None:
        self._listener.close()
        self._refuses = True
        self._open.set()
        self._close_all()

    def _close_all(self) -> None:
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._refuses:
                return
            with contextlib.suppress(OSError), socket.create_connection(self._server) as server:
                self._sockets |= {client, server}
                back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
                back.start()
                self._pass_on(client, server)
                back.join()
                self._sockets -= {client, server}

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if self._refuses:
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """Give a proxy to a database's server, and the database's address by way of it."""
    address = sqlalchemy.make_url(url)
    proxy = Proxy(address.host or "localhost", address.port or 5432)
    try:
        yield proxy, address.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    finally:
        proxy.close()
