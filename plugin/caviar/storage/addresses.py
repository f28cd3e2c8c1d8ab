"""Addresses of databases: from a path and back, made absolute, and shown without their secrets."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit


def sqlite_url(path: Path) -> str:
    """Return SQLAlchemy's address of an SQLite file; ``sqlite_path`` is the way back.

    Only what means something in an address is quoted: ``%`` and ``?`` to SQLAlchemy, braces to Optuna, which takes an
    address for a format string. MLflow makes the directory that an address names, without unquoting it.
    """
    name = re.sub(r"[%?{}]", lambda found: f"%{ord(found[0]):02X}", str(path.absolute()))
    return f"sqlite:///{name}"


def sqlite_path(url: str) -> Path | None:
    """Return the file that an SQLite address names, absolute, or None for another database or one in memory."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] != "sqlite":
        return None
    name = unquote(rest.removeprefix("/").partition("?")[0])
    return Path(os.path.realpath(name)) if name and name != ":memory:" else None


def store_kind(address: str) -> str:
    """Return what comes before an address's colon, without the driver: ``postgresql`` of ``postgresql+psycopg://…``."""
    return address.partition(":")[0].partition("+")[0]


def absolute_address(address: str) -> str:
    """Return an address that means the same to all who get it, after the process has changed its directory too.

    It is that of a database, or of MLflow's store, which may be a directory or a server.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme.split("+")[0] == "sqlite":
        name, mark, query = rest.removeprefix("/").partition("?")
        if not name or name == ":memory:" or name.startswith("file:"):  # SQLite's own addresses are the user's
            return address
        return scheme + sqlite_url(Path(unquote(name))).removeprefix("sqlite") + mark + query
    if separator and scheme.split("+")[0].startswith("postgres"):
        return address.replace("{", "%7B").replace("}", "%7D")  # as `sqlite_url` says; a password may hold some
    if separator or address == "databricks":
        return address
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).absolute().as_uri()
    return address if parts.scheme else str(Path(address).absolute())


def masked(text: str) -> str:
    """Return an address, or a message that holds some, with passwords and tokens replaced by ``***``.

    Of a web address the user's name goes too: it may be a token.

    Example:
        >>> masked("postgresql://ann:secret@db/studies")
        'postgresql://ann:***@db/studies'
    """
    text = re.sub(r"(?<=http://|ttps://)[^/\s]\S*@", "***@", text)
    text = re.sub(r"(?<=://)([^/\s:@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret|api_?key|access_?key)=)[^&\s'\"]+", r"\1***", text)


def reason_of(error: BaseException) -> str:
    """Return what an error says, or a database's driver beneath it: one line, without secrets and a full stop."""
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return masked(said).rstrip(".") or type(error).__name__
