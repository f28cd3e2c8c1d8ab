"""How a PostgreSQL server is connected to: one that was cut off is noticed within seconds, not hours."""

import math
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

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
_USED_AT_S: Final = "caviar_used_at_s"
_TRUSTED_S: Final = 5.0  # for so long after its last use a connection is taken to be there
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


def check_idle_connections(engine: "sqlalchemy.Engine") -> None:
    """Replace a connection that was not used lately and is gone when it is wanted: the server may have been restarted.

    SQLAlchemy's own ``pool_pre_ping`` asks before every transaction, which for short ones is a tenth of their time.
    """
    from sqlalchemy import event, exc

    def note_use(_connection: Any, record: "sqlalchemy.pool.ConnectionPoolEntry") -> None:
        record.info[_USED_AT_S] = time.monotonic()

    def ping(connection: Any, record: "sqlalchemy.pool.ConnectionPoolEntry", _proxy: object) -> None:
        if time.monotonic() - record.info.get(_USED_AT_S, math.inf) < _TRUSTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise exc.DisconnectionError from error  # the pool connects anew

    event.listen(engine, "checkin", note_use)
    event.listen(engine, "checkout", ping)
