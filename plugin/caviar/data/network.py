"""Whether a download can work at all, known within seconds: TFDS itself tries for minutes before it gives up."""

import contextlib
import socket
import threading
import time
from collections.abc import Collection
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable_hosts(urls: Collection[str], *, timeout_s: float = 3.0) -> list[str]:
    """Return the hosts of these addresses that take no connection, or whose proxy takes none, in alphabetical order.

    All are tried at once, one short TCP connect each, and nothing is sent.

    Args:
        urls: Addresses of files; ``gs://`` stands for its public host.
        timeout_s: How long to wait for all of them together. Three seconds are enough for a lost packet and a slow
            name server, and short enough to wait for an error.
    """
    targets = dict(map(_target_of, urls))
    answered = set()

    def connect(host: str) -> None:
        with contextlib.suppress(OSError):
            socket.create_connection(targets[host], timeout=timeout_s).close()
            answered.add(host)

    # Daemons, since the timeout does not bound the look-up of the name: a stuck one must not hold the process.
    threads = [threading.Thread(target=connect, args=(host,), daemon=True) for host in targets]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return sorted(targets.keys() - answered)


def _target_of(url: str) -> tuple[str, tuple[str, int]]:
    """Return an address's host, and the host and port to connect to: its proxy's where the environment sets one."""
    parts = urlsplit(url.replace("gs://", "https://storage.googleapis.com/", 1))
    host, proxies = parts.hostname or url, getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(host):
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return host, (via.hostname or host, via.port or _PORTS.get(via.scheme, 80))
    return host, (host, parts.port or _PORTS.get(parts.scheme, 443))
