"""What a service is told when it starts, and the token that opens it."""

import dataclasses
import ipaddress
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from ..errors import SpecError, StorageError
from ..storage.home import Home

_TOKEN_BYTES: Final = 32
_LEAST_TOKEN: Final = 16  # characters; a shorter one could be guessed
TOKEN_FILE: Final = "service.token"  # noqa: S105  (where it stands, not what it is)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What a service may do, and within which limits.

    Attributes:
        home: Where studies live, with the addresses of Optuna's and MLflow's databases.
        token: What a client must show; None lets everybody in who reaches a loopback address, and no other.
        hosts: Host names, without a port, by which the service may be called besides ``localhost`` and the loopback
            addresses. With any, a token is needed: the service is meant for others than this machine.
        max_body_bytes: Of a request's body, uploads aside.
        max_study_bytes: Of a study file.
        max_upload_bytes: Of one uploaded file.
        max_uploads_bytes: Of all files in the upload directory together.
        max_rows: Of a prediction asked for in JSON.
        max_streams: Event streams at a time.
        max_workers: That a study file from the network may ask for. By default as many as there are cores.
        requests_per_s: That one address may send, on average; twice as many at once.
        body_timeout_s: Seconds without a byte after which a client that still owes a body is given up.
        poll_s: Seconds between two looks at the storage for a stream.

    Raises:
        SpecError: If ``hosts`` are given without a token, or the token is too short.
    """

    home: Home
    token: str | None = dataclasses.field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    max_body_bytes: int = 2**20
    max_study_bytes: int = 2**16
    max_upload_bytes: int = 2**28
    max_uploads_bytes: int = 2**32
    max_rows: int = 10_000
    max_streams: int = 200
    max_workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    requests_per_s: float = 500.0
    body_timeout_s: float = 30.0
    poll_s: float = 0.5

    def __post_init__(self) -> None:
        if self.hosts and self.token is None:
            raise SpecError(f"The service is called {self.hosts[0]!r} and needs a token. Make one with service_token.")
        if self.token is not None and len(self.token) < _LEAST_TOKEN:
            raise SpecError(f"The token has {len(self.token)} characters; it needs at least {_LEAST_TOKEN}.")

    @property
    def directory(self) -> Path:
        """Where the service keeps what is its own: runs and uploads."""
        return self.home.path / "service"

    @property
    def uploads(self) -> Path:
        """The one directory whose files a study file from the network may name."""
        return self.directory / "uploads"


def is_loopback(address: str) -> bool:
    """Tell whether an address is one of this machine's own."""
    try:
        return ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False


def service_token(home: Path) -> tuple[str, bool]:
    """Return the token of a home's service, and whether it was made just now and must be shown.

    It stands in ``service.token`` in the home, readable by its owner alone.

    Raises:
        StorageError: If others can read the file, or it cannot be read or written.
    """
    path = home / TOKEN_FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        made = _make_token(path)
        return (made, True) if made is not None else (_read_token(path), False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StorageError(
            f"The service's token {path} cannot be used: {reason}. Remove the file, or mend it."
        ) from error


def _make_token(path: Path) -> str | None:
    """Write a new token, or return None if there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask says
        file.write(token + "\n")
        file.flush()
        os.fsync(descriptor)
    return token


def _read_token(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="ascii") as file:
        mode = os.fstat(file.fileno())
        if not stat.S_ISREG(mode.st_mode) or stat.S_IMODE(mode.st_mode) & 0o077 or mode.st_uid != os.geteuid():
            raise StorageError(
                f"The service's token {path} must be a file of yours that nobody else can read. Run chmod 600 on it; "
                "if others may have read it, remove it, and the next start makes a new one."
            )
        token = file.read(1000).strip()
    if len(token) < _LEAST_TOKEN:
        raise StorageError(
            f"The service's token {path} is empty or cut off. Remove it; the next start makes a new one."
        )
    return token
