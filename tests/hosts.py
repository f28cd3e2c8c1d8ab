"""Hosts that can be cut off, for benchmarks/cut_off.py.

They are network namespaces on a bridge where these can be made, else proxies in this process.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Protocol

import sqlalchemy

from tests.proxy import Proxy

BRIDGE, NETWORK = "caviarbr", "10.213.77"


class Host(Protocol):
    """A host among several."""

    within: tuple[str, ...]  # what a command is put behind to run on it

    def address(self, url: str) -> str:
        """Return a database's address as this host reaches it."""

    def cut(self) -> None:
        """Cut it off from the database, without a word to either side."""

    def mend(self) -> None:
        """Connect it again."""


class Namespace:
    """A network of its own, with one cable to the bridge; its number begins at 0."""

    def __init__(self, number: int) -> None:
        self._name, self._cable = f"caviar{number}", f"caviarv{number}"
        self.within: tuple[str, ...] = ("ip", "netns", "exec", self._name)
        inside = f"{self._cable}i"
        run("ip", "netns", "add", self._name)
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", inside, "netns", self._name)
        run("ip", "link", "set", self._cable, "master", BRIDGE, "up")
        run(*self.within, "ip", "address", "add", f"{NETWORK}.{number + 10}/24", "dev", inside)
        for device in ("lo", inside):
            run(*self.within, "ip", "link", "set", device, "up")

    def address(self, url: str) -> str:
        """Return a database's address as this host reaches it."""
        return sqlalchemy.make_url(url).set(host=f"{NETWORK}.1").render_as_string(hide_password=False)

    def cut(self) -> None:
        """Cut it off, without a word to either side."""
        run("ip", "link", "set", self._cable, "down")

    def mend(self) -> None:
        """Connect it again."""
        run("ip", "link", "set", self._cable, "up")

    def remove(self) -> None:
        """Leave nothing behind."""
        for command in (("ip", "netns", "del", self._name), ("ip", "link", "del", self._cable)):
            subprocess.run(command, capture_output=True, check=False)


class Proxied:
    """No host of its own, but a way to the database of its own."""

    within: tuple[str, ...] = ()

    def __init__(self, url: str) -> None:
        address = sqlalchemy.make_url(url)
        self._proxy = Proxy(address.host or "localhost", address.port or 5432)

    def address(self, url: str) -> str:
        """Return a database's address as this host reaches it."""
        return sqlalchemy.make_url(url).set(port=self._proxy.port).render_as_string(hide_password=False)

    def cut(self) -> None:
        """Cut it off, without a word to either side."""
        self._proxy.cut(silent=True)

    def mend(self) -> None:
        """Connect it again."""
        self._proxy.mend()

    def remove(self) -> None:
        """Leave nothing behind."""
        self._proxy.close()


@contextlib.contextmanager
def bridge() -> Iterator[bool]:
    """Make the bridge that namespaces hang on; gives False where this user or kernel cannot."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield False
        return
    made = subprocess.run(("ip", "link", "add", BRIDGE, "type", "bridge"), capture_output=True, check=False)
    if made.returncode:
        yield False
        return
    try:
        run("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield True
    finally:
        run("ip", "link", "del", BRIDGE)


@contextlib.contextmanager
def hosts(n: int, *, bridged: bool, url: str) -> Iterator[Sequence[Host]]:
    """Make so many hosts that reach a server's databases, and remove them."""
    with contextlib.ExitStack() as stack:
        made: list[Host] = []
        for number in range(n):
            host = Namespace(number) if bridged else Proxied(url)
            stack.callback(host.remove)
            made.append(host)
        yield made


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True)
