"""How a PostgreSQL server is connected to: one that was cut off is noticed within seconds, not hours."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlalchemy

# The system's own defaults let a worker whose network is gone wait for an answer for two hours, and for a connection
# for two minutes. A server that is only busy answers these probes all the same.
OPTIONS: Final = MappingProxyType(
    {
        "connect_timeout": 10,  # seconds, as the next two
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # milliseconds
    }
)
#: The drivers that hand them to PostgreSQL's own library.
DRIVERS: Final = ("psycopg", "psycopg2")
#: SQL that waits for, and takes, the lock under which a database's tables and studies are made; its number is our name.
TAKE_LOCK: Final = "SELECT pg_advisory_lock(hashtext('optuna-caviar'))"


def connection_options(url: "sqlalchemy.URL") -> dict[str, int]:
    """Return what a driver is told besides the address, which may say otherwise; nothing for other databases.

    Raises:
        ImportError: If the driver is not installed.
    """
    if url.get_backend_name() != "postgresql" or url.get_driver_name() not in DRIVERS:
        return {}
    return {name: value for name, value in OPTIONS.items() if name not in url.query}
