"""The verb that serves: pages, REST and both dashboards at one address."""

import json

import click

from .session import Session, printable, with_session


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A host name it may be called by; repeat it for more."
)
@with_session
def serve(*, port: int, host: str, names: tuple[str, ...], session: Session) -> None:
    """Serve the home's studies in the browser, with both dashboards and a REST API.

    Anything but this machine needs the token that is shown at the first start. Runs go on when it ends.

    \b
    Example:
      caviar serve
      caviar serve --port 8080 --host 0.0.0.0 --name tuning.example.org
    """
    from ..service.server import Served, serve_home

    def say(served: Served) -> None:
        table = {"address": served.address, "token": served.token, "needs_token": served.needs_token}
        lines = [f"caviar is at {served.address}"]
        if served.token is not None:
            lines.append(f"Its token, shown this once and kept in the home's service.token: {served.token}")
        elif served.needs_token:
            lines.append("It asks for the token in the home's service.token.")
        with session.writing() as results:
            click.echo(json.dumps(table) if session.as_json else printable("\n".join(lines)), file=results)

    serve_home(session.home(), host=host, port=port, names=names, on_start=say)
