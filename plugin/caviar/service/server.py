"""Serving a home: the socket, the token, the server, and what is said about them."""

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from optuna.exceptions import ExperimentalWarning

from ..errors import SpecError, StorageError
from ..storage.home import Home, prepare_home
from .settings import ServiceSettings, is_loopback, service_token

if TYPE_CHECKING:
    from .mounting import Dashboards

_logger = logging.getLogger(__name__)

_BACKLOG: Final = 256
_LAST_WORDS_S: Final = 5  # for what is being answered when the service ends
_LOOK_S: Final = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What a service says when it starts.

    Attributes:
        address: Where its front page is.
        token: What opens it, if it was made just now; it is shown this once.
        needs_token: Whether it asks for one.
    """

    address: str
    token: str | None
    needs_token: bool


def serve_home(
    home: Home,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: tuple[str, ...] = (),
    on_start: Callable[[Served], None] = lambda _served: None,
) -> None:
    """Serve a home until Ctrl-C or SIGTERM. Runs that it started go on without it.

    A service that others than this machine can reach, or that has a name, asks for the home's token.

    Args:
        home: What is served.
        host: The address to listen on.
        port: The port; 0 for any that is free.
        names: Host names by which it may be called besides ``localhost``.
        on_start: Told where it is, once it listens.

    Raises:
        SpecError: If the host or the port cannot be listened on.
        StorageError: If the home cannot be written, or its token cannot be used.
    """
    prepare_home(home)
    needs_token = bool(names) or not (host == "localhost" or is_loopback(host))
    token, is_new = service_token(home.path) if needs_token else (None, False)
    if needs_token and not _is_wildcard(host):
        names = (*names, host)
    with contextlib.closing(_listen(host, port)) as listener:
        settings = ServiceSettings(home=home, token=token, hosts=names if needs_token else ())
        real_port = listener.getsockname()[1]
        shown = "localhost" if _is_wildcard(host) else f"[{host}]" if ":" in host else host
        served = Served(address=f"http://{shown}:{real_port}", token=token if is_new else None, needs_token=needs_token)
        on_start(served)
        _run(settings, listener)


def _run(settings: ServiceSettings, listener: socket.socket) -> None:
    # What MLflow and the packages it uses tell each other while they are imported, in whatever thread that happens.
    warnings.filterwarnings("ignore", module=r"mlflow\..*")
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of Optuna's samplers, whatever thread makes them
    import uvicorn

    from .app import make_app

    app = make_app(settings)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # whoever asks could name any address as its own
        timeout_graceful_shutdown=_LAST_WORDS_S,
        ws="none",
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        beside = [
            asyncio.create_task(_load_dashboards(app.state.dashboards, when=app.state.makings.study_shown)),
            asyncio.create_task(end_streams()),
        ]
        await server.serve(sockets=[listener])
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)  # where a Ctrl-C that came meanwhile is raised

    async def end_streams() -> None:
        """End the streams once the server is asked to end: it waits for whoever it still answers."""
        while not server.should_exit:
            await asyncio.sleep(_LOOK_S)
        await app.state.makings.streams.close()

    # uvicorn raises the signal that ended it once more, which by default would kill this process.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(serve())
    finally:
        signal.signal(signal.SIGTERM, before)


async def _load_dashboards(dashboards: "Dashboards", *, when: asyncio.Event) -> None:
    """Load the dashboards while somebody looks at the first page that shows a study.

    A service that only programs ask needs neither. What is wrong with one is told again to whoever opens it.
    """
    await when.wait()
    try:
        await dashboards.prepare()
    except StorageError as error:
        _logger.warning("%s", error)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            f"Port {port} of {host!r} cannot be served: {reason}. Give another --port, such as {port % 60_000 + 1}."
        ) from error


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::", "")  # noqa: S104  (only compared)
