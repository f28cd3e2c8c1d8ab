"""A client of an app in this process, whose event loop lives in a thread, as a server's would."""

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

TOKEN = "a-token-that-nobody-guesses"


class AppClient:
    """Sends requests as our own clients do; headers that are None are left out."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._portal, self._client = portal, client

    def send(
        self, method: str, path: str, *, headers: dict[str, str | None] | None = None, **content: Any
    ) -> httpx.Response:
        wanted = {"X-Caviar": "1", **(headers or {})}
        sent = {name: value for name, value in wanted.items() if value is not None}
        return self._portal.call(lambda: self._client.request(method, path, headers=sent, **content))

    def get(self, path: str, **content: Any) -> httpx.Response:
        return self.send("GET", path, **content)

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self.send("POST", path, **content)


@contextlib.contextmanager
def calling(app: FastAPI, *, address: str = "127.0.0.1") -> Iterator[AppClient]:
    """Give a client of an app, at this address, until the block ends."""

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 12345))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=60) as client,
        ):
            yield client

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running()) as client:
        yield AppClient(portal, client)


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[int]:
    """Serve an app on a port of this machine, from a thread, until the block ends; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="critical", access_log=False, ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
