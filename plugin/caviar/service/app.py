"""The one ASGI application: REST, pages and dashboards behind one guard."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi import FastAPI

from .. import __version__
from . import api_asked, api_champions, api_runs, api_studies, api_uploads, login, pages
from .answers import explain_errors
from .limits import Buckets
from .mounting import Dashboards
from .requests import Makings
from .runs import Runs
from .security import Guard
from .settings import ServiceSettings

_DESCRIPTION: Final = """Studies of caviar, and Optuna as a service.

Every request but GET and HEAD needs the header `X-Caviar: 1`. A service with a token needs
`Authorization: Bearer TOKEN` as well. Errors are `{"error": {"message": …, "way_out"?: …}}`.
"""


def make_app(settings: ServiceSettings) -> FastAPI:
    """Return the service's application.

    What a request needs stands in ``app.state``.

    Args:
        settings: Its home, its token and its limits.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        settings.uploads.mkdir(parents=True, exist_ok=True)
        api_uploads.remove_stale(settings.uploads)
        try:
            yield
        finally:
            await makings.close()

    makings = Makings(settings)
    app = FastAPI(
        title="caviar",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings, app.state.makings = settings, makings
    app.state.runs = Runs(settings.home)
    app.state.dashboards = Dashboards(settings.home)
    app.state.login_failures = Buckets(per_s=1 / 6, burst=10)
    explain_errors(app)
    for module in (login, pages, api_studies, api_runs, api_champions, api_uploads, api_asked):
        app.include_router(module.router)
    app.state.dashboards.add_to(app)
    app.add_middleware(Guard, settings=settings)
    return app
