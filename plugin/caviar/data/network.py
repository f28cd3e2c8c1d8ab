"""Which hosts can be reached, checked within seconds; TFDS itself tries for minutes before it gives up."""

import contextlib
import socket
import threading
import time
from collections.abc import Collection
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable_hosts(urls: Collection[str], *, timeout_s: float = 3.0) -> list[str]:
    """Return the hosts of these URLs, sorted, that accept no connection, or whose proxy accepts none.

    This opens one TCP connection to each, all at once, and sends nothing. ``gs://`` stands for its public host. The
    timeout is for all of them together: three seconds allow for a lost packet and a slow name server.
    """
    targets = dict(map(_target_of, urls))
    answered = set()

    def connect(host: str) -> None:
        with contextlib.suppress(OSError):
            socket.create_connection(targets[host], timeout=timeout_s).close()
            answered.add(host)

    # Daemons: the timeout does not limit name resolution, and a stuck one must not keep the process alive.
    threads = [threading.Thread(target=connect, args=(host,), daemon=True) for host in targets]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return sorted(targets.keys() - answered)


def _target_of(url: str) -> tuple[str, tuple[str, int]]:
    """Return a URL's host, and the host and port to connect to: its proxy's if the environment sets one."""
    parts = urlsplit(url.replace("gs://", "https://storage.googleapis.com/", 1))
    host, proxies = parts.hostname or url, getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(host):
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return host, (via.hostname or host, via.port or _PORTS.get(via.scheme, 80))
    return host, (host, parts.port or _PORTS.get(parts.scheme, 443))
