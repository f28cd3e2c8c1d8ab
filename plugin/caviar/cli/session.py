"""What all verbs share: the options that name the home, printing of results, and how errors end."""

import contextlib
import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from ..errors import CaviarError

if TYPE_CHECKING:
    from ..storage.home import Home

_Function = TypeVar("_Function", bound=Callable[..., Any])
INTERRUPTED = 130

_OPTIONS = (
    click.option(
        *("--home", "home_path"),
        type=click.Path(path_type=Path),
        envvar="CAVIAR_HOME",
        default=Path("runs"),
        show_default=True,
        show_envvar=True,
        help="Directory that holds everything a run writes.",
    ),
    click.option(
        "--storage",
        envvar="CAVIAR_STORAGE",
        show_envvar=True,
        help="Optuna's storage URL; by default SQLite in the home.",
    ),
    click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        help="MLflow's tracking URI; by default SQLite in the home.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


class Session:
    """One call of a verb.

    Args:
        home_path: ``--home``.
        storage: ``--storage``, or None.
        tracking_uri: ``--tracking-uri``, or None.
        as_json: ``--json``.
        results: Where results are printed.
    """

    def __init__(
        self, *, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool, results: TextIO
    ) -> None:
        self._results = results
        self._home_path = home_path
        self._storage = storage
        self._tracking_uri = tracking_uri
        self.as_json = as_json

    def home(self) -> "Home":
        """Return the home that the options name, its addresses checked."""
        import optuna

        from ..storage.home import locate_home

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return locate_home(self._home_path, storage=self._storage, tracking_uri=self._tracking_uri)

    def addressed_home(self) -> "Home":
        """Return the home that the options name, its addresses unchecked."""
        from ..storage.home import address_home

        return address_home(self._home_path, storage=self._storage, tracking_uri=self._tracking_uri)

    def print(self, value: Any, text: Callable[[], str]) -> None:
        """Print a result as JSON if ``--json`` was given, else as text."""
        if self.as_json:
            utf8 = (self._results.encoding or "").lower().replace("-", "") == "utf8"
            shown = json.dumps(value, indent=2, ensure_ascii=not utf8)
        else:
            shown = printable(text())
        click.echo(shown, file=self._results)


def with_session(function: _Function) -> _Function:
    """Give a verb the shared options; it gets their values as the argument ``session``."""

    @functools.wraps(function)
    def call(
        *arguments: Any, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool, **others: Any
    ) -> Any:
        with _results_alone() as results:
            session = Session(
                home_path=home_path, storage=storage, tracking_uri=tracking_uri, as_json=as_json, results=results
            )
            return function(*arguments, session=session, **others)

    wrapped: Any = call
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # the decorator changes what click calls, not what it is


@contextlib.contextmanager
def _results_alone() -> Iterator[TextIO]:
    """Keep stdout for results: send what the user's modules, libraries and workers print to stderr."""
    results = sys.stdout
    with contextlib.ExitStack() as stack:
        if _is_descriptor(results, 1) and _is_descriptor(sys.stderr, 2):  # not in a test, which keeps text in memory
            results.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(2, 1)
            results = stack.enter_context(
                open(kept, "w", encoding=results.encoding, errors=results.errors, closefd=False)
            )
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield results


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (AttributeError, OSError, ValueError):
        return False


class CaviarGroup(click.Group):
    """Turns our errors into a line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        spare_encoding_errors()
        try:
            return super().invoke(ctx)
        except CaviarError as error:
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("Interrupted. Finished work is kept.", INTERRUPTED)
        except OSError as error:
            fail(f"{error}. Fix that, then run the same command again.", 1)
        except Exception as error:
            reason = _outage(error)
            if reason is None:
                raise
            fail(reason, 1)


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with a line on stderr and an exit code."""
    from ..storage.addresses import masked

    short = re.sub(r"\S{201,}", lambda word: f"{word[0][:100]}…{word[0][-50:]}", masked(message))
    if len(short) > 2000:  # a message begins with what is wrong and ends with what to do
        short = f"{short[:1500]} … {short[-500:]}"
    click.echo(f"Error: {printable(short)}", err=True)
    sys.exit(exit_code)


def printable(text: str) -> str:
    """Return a text with its control characters escaped: other people's names must not control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def spare_encoding_errors() -> None:
    """Escape characters that the terminal's encoding lacks, as Python does on stderr; they must end no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _outage(error: Exception) -> str | None:
    """Return what is wrong with the study's database; None if the error is another one."""
    from optuna.exceptions import StorageInternalError

    from ..storage.schema import explain_outage

    return explain_outage(error) if isinstance(error, StorageInternalError) else None
