"""What all verbs share: the options that name the home, printing of results, and how errors end."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
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
        help="Directory for everything that caviar writes.",
    ),
    click.option("--storage", envvar="CAVIAR_STORAGE", show_envvar=True, help="URL of Optuna's storage."),
    click.option(
        "--files",
        envvar="CAVIAR_FILES",
        show_envvar=True,
        help="Directory or fsspec URL for checkpoints, networks, reports, champions and artifacts; default: the home.",
    ),
    click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="URI of MLflow's tracking."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """One call of a verb: the options that all verbs have, and where results are printed."""

    home_path: Path
    storage: str | None
    files: str | None
    tracking_uri: str | None
    as_json: bool
    results: TextIO

    def home(self, *, checked: bool = True) -> "Home":
        """Return the home that the options name; unless unchecked, addresses that cannot be used are refused."""
        import optuna

        from ..storage.home import address_home, locate_home

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        locate = locate_home if checked else address_home
        return locate(self.home_path, storage=self.storage, tracking_uri=self.tracking_uri, files=self.files)

    def print(self, value: Any, text: Callable[[], str]) -> None:
        """Print a result as JSON if ``--json`` was given, else as text."""
        utf8 = (self.results.encoding or "").lower().replace("-", "") == "utf8"
        shown = json.dumps(value, indent=2, ensure_ascii=not utf8) if self.as_json else printable(text())
        with self.writing() as results:
            click.echo(shown, file=results)

    @contextlib.contextmanager
    def writing(self) -> Iterator[TextIO]:
        """Give the stream for results. If its reader has read enough, as `head` does, the command ends quietly."""
        try:
            yield self.results
            self.results.flush()
        except BrokenPipeError:
            os._exit(0)


def with_session(function: _Function) -> _Function:
    """Give a verb the options that all verbs have, as its argument ``session``."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        shared = {name: options.pop(name) for name in ("home_path", "storage", "files", "tracking_uri", "as_json")}
        with _results_alone() as results:
            return function(*arguments, session=Session(**shared, results=results), **options)

    wrapped: Any = functools.reduce(lambda verb, option: option(verb), reversed(_OPTIONS), call)
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
        for stream in (sys.stdout, sys.stderr):  # a character that the terminal's encoding lacks must end no command
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except CaviarError as error:
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("Interrupted. Finished work is kept.", INTERRUPTED)
        except OSError as error:
            fail(f"{error}. Fix that, then run the same command again.", 1)
        except Exception as error:
            from optuna.exceptions import StorageInternalError

            from ..storage.schema import explain_outage

            if not isinstance(error, StorageInternalError) or (reason := explain_outage(error)) is None:
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


def say(lines: Iterable[str]) -> None:
    """Print lines to stderr."""
    for line in lines:
        click.echo(printable(line), err=True)


def printable(text: str) -> str:
    """Return a text with its control characters escaped: other people's names must not control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
