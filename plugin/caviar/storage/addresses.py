"""Addresses: between a file's path and its address each way, and shown without their secrets."""

import os
import re
from pathlib import Path
from typing import Final

#: What the end of a parameter's name is where its value is a secret: ``sslpassword``, ``access_token``.
_SECRETS: Final = r"(?:password|passwd|pwd|token|secret|api_?key|credentials?)"


def sqlite_address(path: Path) -> str:
    """Return the address of an SQLite file, quoted as SQLAlchemy reads it."""
    from sqlalchemy.engine import URL  # takes a tenth of a second, which `caviar --help` need not wait

    return URL.create("sqlite", database=str(path)).render_as_string()


def sqlite_path(address: str) -> Path | None:
    """Return the file that an SQLite address names, absolute, or None for another database or one in memory."""
    from sqlalchemy.engine import make_url

    scheme, separator, _ = address.partition("://")
    if not separator or scheme.split("+")[0] != "sqlite":
        return None
    url = make_url(address)
    name = None if url.host else url.database  # sqlite://runs/optuna.db lacks a slash, and SQLAlchemy refuses it
    return Path(os.path.realpath(name)) if name and name != ":memory:" else None


def storage_address(address: str) -> str:
    """Return a storage's address as it can be handed on: a relative file made absolute, all that is special quoted.

    Optuna formats an address, and so stumbles over a brace; SQLAlchemy ends a password at its first ``@``. What is no
    address is returned as it is, for whoever opens it to refuse.
    """
    from sqlalchemy.engine import make_url

    address = _with_quoted_at(address)
    if not is_address(address):
        return address
    url = make_url(address)
    name = url.database
    if sqlite_path(address) is not None and name is not None and not name.startswith("file:"):
        url = url.set(database=str(Path(name).absolute()))
    return url.render_as_string(hide_password=False)


def is_address(text: str) -> bool:
    """Tell whether SQLAlchemy can read a text as a database's address."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(text)
    except (ArgumentError, ValueError):
        return False
    return True


def tracking_address(address: str) -> str:
    """Return the address of MLflow's store as it can be handed on; relative files and directories made absolute."""
    if address.startswith("sqlite"):
        return storage_address(address)
    name = address.removeprefix("file:")
    if name.startswith("//") or ":" in name or name in ("", "databricks"):
        return _with_quoted_at(address)
    return Path(name).absolute().as_uri()


def masked(text: str) -> str:
    """Return a text with ``***`` for the passwords and tokens of the addresses in it.

    Args:
        text: An address, or a message that may hold some.

    Example:
        >>> masked("postgresql://ann:secret@db/mlflow")
        'postgresql://***@db/mlflow'
    """
    text = re.sub(r"(?<=://)[^\s/]\S*@", "***@", text)
    text = re.sub(r"(?<=://)[^\s/:@]+:[^@\n]*@", "***@", text)  # a password with a space in it
    return re.sub(rf"(?i)({_SECRETS}=)[^&\s'\"]+", r"\1***", text)


def _with_quoted_at(address: str) -> str:
    """Return an address with every ``@`` of its user and password quoted; the last one ends them."""
    scheme, separator, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}{separator}{user.replace('@', '%40')}{at}{host}{slash}{path}"
