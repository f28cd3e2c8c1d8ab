"""The pages: every study, one study, and the form that starts one."""

import functools
import gzip
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import jinja2
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .. import __version__
from ..commands.overview import home_health, mlflow_link, show_study
from ..errors import CaviarError
from ..insight.words import duration, shown
from ..storage.addresses import masked
from ..storage.studies import stored_spec
from .answers import Refusal, shown_message
from .mounting import dashboard_link, study_at
from .network_study import toml_text
from .requests import makings
from .security import PAGE_POLICY

router = APIRouter(include_in_schema=False)

_ASSETS: Final = {
    "caviar.css": "text/css",
    "caviar.js": "text/javascript",
    "fellow.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_PLOTLY: Final = "plotly.js"
#: The two style elements that plotly.js adds to a page, by their digests; the browser test fails if they change.
_PLOTLY_STYLES: Final = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
)
_HEALTH_FRESH_S: Final = 300.0
_LINK_FRESH_S: Final = 60.0
_EXAMPLE: Final = """# Digits in seconds: does the whole chain work?
name = "digits_quick"
seed = 0

[data]
dataset = "digits"

[objective]
epochs = 20

[search]
trials = 60
"""


@router.get("/")
async def front_page(request: Request) -> Response:
    """Show every study, and what runs."""
    use, runs = makings(request), request.app.state.runs
    home = use.settings.home
    studies = await use.recent.get("front page", use.store.studies)
    if studies:
        use.study_shown.set()
    return _page(
        "front.html",
        studies=sorted(studies, key=lambda study: not study["workers"]),
        runs=(await to_thread.run_sync(runs.list))[:20],
        health=use.recent.get_later("health", lambda: home_health(home), fresh_s=_HEALTH_FRESH_S),
        home=str(home.path),
        storage=masked(home.storage),
    )


@router.get("/new")
def form_page(request: Request, study: Annotated[str | None, Query(max_length=150)] = None) -> Response:
    """Show the form that checks a study file and starts it; with a study's own file, to go on or to change it."""
    use = makings(request)
    spec = None if study is None else stored_spec(use.store.study(study)[1])
    return _page(
        "new.html",
        text=_EXAMPLE if spec is None else toml_text(spec),
        study=None if spec is None else study,
        most_bytes=use.settings.max_upload_bytes,
    )


@router.get("/studies/{name:path}")
async def study_page(request: Request, name: str) -> Response:
    """Show one study."""
    use, all_runs = makings(request), request.app.state.runs
    home = use.settings.home
    runs = await to_thread.run_sync(lambda: all_runs.list(study=name))
    try:
        storage, study = await to_thread.run_sync(use.store.study, name)
    except CaviarError as error:
        if not runs:
            raise
        return _page("starting.html", status_code=200, name=name, runs=runs, said=shown_message(str(error)))
    show = functools.partial(show_study, home)
    view = await use.recent.get(("study page", name), lambda: use.store.read(name, show))
    link = use.recent.get_later(
        ("link", name), lambda: _link_or_none(lambda: mlflow_link(home, storage, study)), fresh_s=_LINK_FRESH_S
    )
    page = _page(
        "study.html",
        view=view,
        status=view["status"],
        runs=runs,
        log=await to_thread.run_sync(all_runs.log, runs[0].id) if runs else "",
        running=next((run for run in runs if run.is_running), None),
        dashboard=dashboard_link(view["id"]),
        mlflow=link or "/mlflow/",
    )
    page.headers["Content-Security-Policy"] = PAGE_POLICY.replace("style-src", f"style-src {_PLOTLY_STYLES}")
    use.study_shown.set()
    return page


@router.get("/from")
async def from_dashboard(request: Request, place: Annotated[str, Query(max_length=1000)]) -> Response:
    """Lead from a page of optuna-dashboard or MLflow to the page of the same study, or else to the front page."""
    use = makings(request)

    def find() -> str | None:
        storage = use.store.storage()
        name = None if storage is None else study_at(use.settings.home, storage, place)
        if name is not None:
            use.store.study(name)
        return name

    try:
        name = await to_thread.run_sync(find)
    except CaviarError:  # MLflow keeps experiments of studies that are gone
        name = None
    return RedirectResponse("/" if name is None else f"/studies/{quote(name)}", status_code=303)


@router.get("/favicon.ico")
def icon(request: Request) -> Response:
    """Return the icon that optuna-dashboard's page asks for."""
    return asset(request, "icon.svg")


@router.get("/assets/{name}")
def asset(request: Request, name: str) -> Response:
    """Return a style, a script or a picture; none comes from the network."""
    if name == _PLOTLY:
        content, media, packed = _plotly()
    elif name in _ASSETS:
        content, media, packed = (Path(__file__).parent / "assets" / name).read_bytes(), _ASSETS[name], None
    else:
        raise Refusal(404, f"There is no asset {name[:100]!r}.")
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=media, headers={**headers, "Content-Encoding": "gzip"})
    return Response(content, media_type=media, headers=headers)


@functools.cache
def _plotly() -> tuple[bytes, str, bytes]:
    """Return plotly.js as the plotly package ships it, and packed to a third."""
    from plotly.offline import get_plotlyjs

    content = get_plotlyjs().encode()
    return content, "text/javascript", gzip.compress(content, 5)


def _link_or_none(find: Callable[[], str | None]) -> str | None:
    try:
        return find()
    except CaviarError:  # no page fails because MLflow is down
        return None


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "duration": duration, "clean": shown_message}
    environment.globals |= {"version": __version__, "plotly_version": importlib.metadata.version("plotly")}
    return environment


def _page(template: str, *, status_code: int = 200, **values: Any) -> Response:
    return HTMLResponse(_templates().get_template(template).render(**values), status_code=status_code)
