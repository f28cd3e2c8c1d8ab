"""Joining a Ray cluster, or starting one on this machine; and what a cluster of several hosts asks of a study."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import psutil

from ..errors import FatalError, SpecError, StorageError
from ..storage.addresses import masked, reason_of, sqlite_path
from ..storage.home import Home

#: Ray's own variable for the cluster to join; without it, one of this machine's own is started.
ADDRESS: Final = "RAY_ADDRESS"
_AUTHENTICATION: Final = "RAY_AUTH_MODE"
#: The least that Ray takes for objects; the messages here are texts of a kilobyte. By default it would be a third of
#: the memory.
_OBJECT_BYTES: Final = 80 << 20
_CONNECT_S: Final = 10.0


@contextlib.contextmanager
def joined_cluster() -> Iterator[Any]:
    """Give Ray, connected to a cluster: the one of this process, the one of RAY_ADDRESS, or a new one on this machine.

    What was joined or started here is left or ended in the end.

    Raises:
        SpecError: If Ray is not installed.
        FatalError: If the cluster cannot be reached.
    """
    address = os.environ.get(ADDRESS) or "local"
    ray = _import_ray(own=address == "local")
    if ray.is_initialized():
        yield ray
        return
    own_options = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
    options: dict[str, Any] = own_options if address == "local" else {}
    _check_reachable(address)
    try:
        with _signal_handlers_kept():
            ray.init(address=address, configure_logging=False, **options)
    except Exception as error:  # whatever gRPC, its own checks or the operating system raise
        said = " ".join(masked(str(error)).split())[:500].rstrip(".") or type(error).__name__
        if address == "local":
            raise FatalError(f"Ray cannot start a cluster on this machine: {said}.") from error
        raise FatalError(
            f"The Ray cluster {masked(address)} cannot be joined: {said}. Look whether it runs (`ray status`), has the "
            "same versions of Ray and Python as this machine, and takes the token that this user has."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_shared_storage(home: Home, nodes: list[dict[str, Any]]) -> str | None:
    """Refuse SQLite where nodes of a cluster are on other hosts than this one.

    Returns:
        The address of the one host that may work on the study, or None if any may.

    Raises:
        StorageError: Naming the option that is to be given.
    """
    kept_here = {
        "--storage postgresql+psycopg://…": home.storage,
        "--tracking-uri http://…": home.tracking_uri,
    }
    option = next((option for option, url in kept_here.items() if sqlite_path(url) is not None), None)
    if option is None:
        return None
    own = {address.address for found in psutil.net_if_addrs().values() for address in found}
    addresses = sorted({str(node["NodeManagerAddress"]) for node in nodes if node["Alive"]})
    others = [address for address in addresses if address not in own]
    if others:
        raise StorageError(
            f"{masked(kept_here[option])} is an SQLite file, which serves one host, but the Ray cluster has nodes on "
            f"{len(others)} others ({', '.join(others[:5])}). Use PostgreSQL for the study and a server for MLflow: "
            f"give {option}."
        )
    return addresses[0] if addresses else None


def _import_ray(*, own: bool) -> Any:
    """Import Ray, for a cluster of our own or for another."""
    if find_spec("ray") is None:
        raise SpecError("The engine ray needs Ray: pip install 'optuna-caviar[ray]'.")
    if own and "ray" not in sys.modules:  # it is read while Ray is imported
        os.environ.setdefault(_AUTHENTICATION, "token")  # its own choice for a new cluster, of which it warns
    import ray

    return ray


def _check_reachable(address: str) -> None:
    """Knock at a cluster's port: Ray itself would try for minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not (separator and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise FatalError(
            f"There is no Ray cluster at {masked(address)}: {reason_of(error)}. Look whether its head runs "
            "(`ray status`), and give --ray-address ray://HEAD:10001, or HEAD:6379 on a machine of the cluster."
        ) from error


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Undo Ray's handler of SIGTERM, which would exit with another code than the engine of processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
