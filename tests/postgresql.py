"""A PostgreSQL server for the tests: Debian's, started where a test needs it, or the one that you name.

``CAVIAR_TEST_POSTGRESQL`` names a server of yours, as ``postgresql+psycopg://user@host/postgres``; its user must be
allowed to create databases.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from caviar.storage.database import new_owner, open_storage

GIVEN = os.environ.get("CAVIAR_TEST_POSTGRESQL", "")
#: Where Debian keeps the server's programs, which are not on the PATH; the latest version first.
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
# The server ends and its files go when this process closes the pipe, or is killed.
_SERVE = """
directory=$1; shift
exec 3<&0
"$@" 3<&- & server=$!
(read -r _ <&3; kill -QUIT "$server"; while kill -0 "$server"; do sleep 0.05; done; rm -rf "$directory") &
wait "$server"
"""
# Everything here is thrown away, so nothing waits for the disk.
_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")


class Server:
    """A running server.

    Attributes:
        url: The address of its database ``postgres``, with a user who may do anything, and a password.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept: list[str] = []  # databases with Optuna's empty tables that nobody uses now

    def address(self, database: str) -> str:
        """Return the address of one of its databases."""
        return sqlalchemy.make_url(self.url).set(database=database).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Create an empty database, and drop it at the end; gives its address."""
        name = self._create()
        try:
            with closing_connections():
                yield self.address(name)
        finally:
            self._drop(name)

    @contextlib.contextmanager
    def study_database(self) -> Iterator[str]:
        """Give a database with Optuna's empty tables, which take a second to make; it is emptied at the end."""
        if self._kept:
            name = self._kept.pop()
        else:
            name = self._create()
            open_storage(self.address(name), owner=new_owner(), create=True).engine.dispose()
        with closing_connections():
            yield self.address(name)
        self._empty(name)
        self._kept.append(name)

    def close(self) -> None:
        """Leave nothing behind."""
        for name in self._kept:
            self._drop(name)

    def _create(self) -> str:
        name = f"caviar_{uuid.uuid4().hex}"
        self._run(self.url, f"CREATE DATABASE {name}")
        return name

    def _drop(self, name: str) -> None:
        self._run(self.url, f"DROP DATABASE {name} WITH (FORCE)")

    def _empty(self, name: str) -> None:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        everything = "TRUNCATE studies, trials RESTART IDENTITY CASCADE"  # whatever refers to them too
        self._run(self.address(name), f"{others} AND pid <> pg_backend_pid()", everything)

    def _run(self, url: str, *statements: str) -> None:
        import psycopg  # where it is missing, tests skip

        with psycopg.connect(psycopg_address(url), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextlib.contextmanager
def closing_connections() -> Iterator[None]:
    """Close what psycopg opens in the block and leaves in pools: it warns of every connection that is just dropped.

    Other libraries' are left: a thread that a test did not wait for may use one, and sqlite3 crashes the process if
    another thread closes what it executes on.
    """
    import psycopg  # where it is missing, tests skip

    opened: list[psycopg.Connection[Any]] = []

    def remember(connection: object, _record: object) -> None:
        if isinstance(connection, psycopg.Connection):
            opened.append(connection)

    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "connect", remember)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "connect", remember)
        for connection in opened:
            connection.close()


def psycopg_address(url: str) -> str:
    """Return an address as the server's own programs take it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def why_not() -> str:
    """Return why no server can be started here, or nothing."""
    if GIVEN:
        return ""
    if not (_found("postgres") and _found("initdb")):
        return (
            "no PostgreSQL server: install Debian's package postgresql, or name a server in CAVIAR_TEST_POSTGRESQL "
            "(postgresql+psycopg://user@host/postgres)"
        )
    return ""


@contextlib.contextmanager
def running_server(*, host: str = "127.0.0.1", listen: str = "127.0.0.1") -> Iterator[Server]:
    """Start a server with a password, on a free port, or use the one that is given; skip where there is none.

    Args:
        host: Where the address has it.
        listen: The addresses that it listens on, with commas.
    """
    if reason := why_not():
        pytest.skip(reason)
    if GIVEN:
        server = Server(GIVEN)
        try:
            yield server
        finally:
            server.close()
        return
    password = secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        port = next(filter(None, (stack.enter_context(_serving(password, listen=listen)) for _ in range(3))), None)
        if port is None:
            raise AssertionError("PostgreSQL did not start, three times; its logs are above.")
        yield Server(f"postgresql+psycopg://caviar:{password}@{host}:{port}/postgres")


@contextlib.contextmanager
def _serving(password: str, *, listen: str) -> Iterator[int | None]:
    """Run a server on a port that was free a moment ago; gives the port, or None if the server did not start."""
    directory = Path(tempfile.mkdtemp(prefix="caviar-pg-"))
    try:
        _make_cluster(directory, password)
        with contextlib.closing(socket.create_server(("", 0))) as probe:
            port = probe.getsockname()[1]
        settings = [*_SETTINGS, f"listen_addresses={listen}", f"unix_socket_directories={directory}", f"port={port}"]
        log = directory.with_suffix(".log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", _SERVE, "sh", directory, _found("postgres"), "-D", directory / "data", *_flags(settings)],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C is for the tests
                **_account(),
            )
        assert process.stdin is not None
        try:
            ready = _accepts(process, directory / "data" / "postmaster.pid")
            if not ready:
                print(log.read_text())
            log.unlink()
            yield port if ready else None
        finally:
            process.stdin.close()
            process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make_cluster(directory: Path, password: str) -> None:
    file = directory / "password"
    file.write_text(password)
    account = _account()
    for path in (directory, file) if account else ():
        shutil.chown(path, account["user"], account["group"])
    options = ["--username=caviar", f"--pwfile={file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    made = subprocess.run(
        [_found("initdb"), f"--pgdata={directory / 'data'}", "--no-sync", "--no-instructions", *options],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **account,
    )
    if made.returncode == 0:
        with (directory / "data" / "pg_hba.conf").open("a") as allowed:
            allowed.write("host all all all scram-sha-256\n")  # whom it listens to is another matter
    else:
        pytest.skip(f"PostgreSQL's files cannot be made in {directory}: {made.stderr.strip()}")


def _accepts(process: subprocess.Popen[bytes], file: Path) -> bool:
    """Wait until the server says in its file that it is ready; False if it has ended, or takes too long."""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            lines = file.read_text().split("\n")
            if len(lines) > 7 and lines[7].strip() == "ready":
                return True
        time.sleep(0.02)
    return False


def _flags(settings: list[str]) -> list[str]:
    return [argument for setting in settings for argument in ("-c", setting)]


def _found(name: str) -> str:
    """Return where one of the server's programs is, or nothing."""
    places = [os.environ.get("PATH", os.defpath), *map(str, _DEBIAN)]
    return next(filter(None, (shutil.which(name, path=place) for place in places)), "")


def _account() -> dict[str, Any]:
    """Return whom a process must run as, since PostgreSQL refuses to be root; nothing where we are not."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
