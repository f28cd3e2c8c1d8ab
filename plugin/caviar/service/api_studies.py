"""Studies over HTTP: listed, checked, started, looked at, watched, reported on, controlled."""

from typing import Annotated, Any, Final, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field

from ..commands.report import report_study, report_summary
from ..commands.run import check_runnable
from ..commands.status import status_of
from ..commands.studies import list_studies
from ..commands.trials import trials_of
from ..spec import StudySpec, spec_table
from ..storage.home import Home
from .answers import Refusal
from .control import control_trial
from .events import curve_of
from .fresh import json_bytes
from .network_study import network_spec
from .requests import MAX_INT, REFUSALS, Makings, Strict, StudyName, TrialNumber, check_name, makings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1", tags=["Studies"], route_class=StrictRoute, responses=REFUSALS)

_MOST_CURVES: Final = 1000
#: A report's page draws with scripts that stand in it, so it is shown as a foreign page: it can ask us nothing.
_REPORT_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'self'"
)
_TOML: Final = {
    "requestBody": {
        "required": True,
        "description": "A study file.",
        "content": {"application/toml": {"schema": {"type": "string"}}},
    }
}


class Checked(Strict):
    """What a study file says, every default written out."""

    study: str
    file: dict[str, Any]


class Control(Strict):
    """What to do with a running trial."""

    action: Literal["set", "pause", "resume", "stop", "epochs", "back", "fork"]
    values: Annotated[dict[str, bool | int | float | str], Field(max_length=50)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    epoch: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


@router.get("/studies")
async def studies(request: Request) -> Response:
    """List every study of the home: how far it is, its best trial, its rate and its workers."""
    use = makings(request)

    def make() -> list[dict[str, Any]]:
        storage = use.store.storage()
        return [] if storage is None else list_studies(storage)

    return await use.fresh.get(("studies",), make)


@router.post("/validate", response_model=Checked, openapi_extra=_TOML)
async def validate(request: Request) -> Any:
    """Check a study file as a run would, without touching the data: its keys, ranges, sizes, sampler and pruner."""
    spec = await checked_study(request)
    return {"study": spec.name, "file": spec_table(spec)}


@router.get("/studies/{name}")
async def status(request: Request, name: StudyName) -> Response:
    """Tell how a study stands, as `caviar status --json` does."""
    use = _named(request, name)
    return await use.fresh.get(("status", name), lambda: status_of(use.settings.home, *use.store.study(name)))


@router.get("/studies/{name}/trials")
async def trials(request: Request, name: StudyName) -> Response:
    """Return a study's trials, by number, as `caviar trials --json` does."""
    use = _named(request, name)
    return await use.fresh.get(("trials", name), lambda: trials_of(use.store.study(name)[1]))


@router.get("/studies/{name}/curves")
async def curves(
    request: Request,
    name: StudyName,
    trials: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_INT)]] | None, Query(max_length=100, description="Only these.")
    ] = None,
    last: Annotated[int, Query(ge=1, le=_MOST_CURVES, description="The newest so many.")] = 100,
) -> Response:
    """Return the learning curves of a study's trials: for each, its `values` as pairs of step and metric."""
    use = _named(request, name)

    def make() -> list[dict[str, Any]]:
        found = use.store.study(name)[1].get_trials(deepcopy=False)
        wanted = found[-last:] if trials is None else [one for one in found if one.number in set(trials)]
        return [curve_of(trial) for trial in wanted]

    return await use.fresh.get(("curves", name, str(sorted(set(trials or ()))), str(last)), make)


@router.get(
    "/studies/{name}/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream(request: Request, name: StudyName) -> Response:
    """Watch a study: server-sent events, until you leave.

    `picture` comes first: all trials that have not ended, with their curves, and the counts. Each `update` has the
    trials that changed, with the new points of their curves; a point may come twice. `gone` ends the stream.
    """
    lines = await _named(request, name).streams.watch(name)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


@router.post("/studies/{name}/report")
async def make_report(request: Request, name: StudyName) -> Response:
    """Write the report on a study, and return its findings in words; `GET` shows its page."""
    use = _named(request, name)
    await to_thread.run_sync(use.store.study, name)
    return _json(await use.reports.run(_report, use.settings.home, name, timeout_s=600))


@router.get(
    "/studies/{name}/report",
    response_class=FileResponse,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def show_report(request: Request, name: StudyName) -> Response:
    """Return the page of the last report on a study."""
    use = _named(request, name)
    page, _ = use.settings.home.report_files(name)
    if not page.is_file():
        way_out = f"POST /v1/studies/{name}/report writes one."
        raise Refusal(404, f"There is no report on the study {name!r} yet.", way_out=way_out)
    return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


@router.post("/studies/{name}/trials/{number}/control")
async def control(request: Request, name: StudyName, number: TrialNumber, what: Control) -> Response:
    """Intervene in a running trial: it takes effect at its next epoch."""
    use = _named(request, name)
    given = what.model_dump(exclude_unset=True)
    answer = await to_thread.run_sync(lambda: control_trial(use.settings.home, *use.store.study(name), number, given))
    return _json(answer)


async def checked_study(request: Request) -> StudySpec:
    """Return the study file in a request's body, checked; its space is tried in a thread.

    Raises:
        Refusal: If the body is no TOML, by its type or its size.
        CaviarError: If it is not allowed.
    """
    settings = makings(request).settings
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/toml", "text/plain"):
        raise Refusal(415, f"A study file is application/toml, but got {kind[:100]!r}.")
    body = await request.body()
    if len(body) > settings.max_study_bytes:
        raise Refusal(413, f"The study file is larger than {settings.max_study_bytes} bytes.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"The study file is not UTF-8: {error.reason}.") from error

    def check() -> StudySpec:
        spec = network_spec(text, settings)
        check_runnable(spec)
        return spec

    return await to_thread.run_sync(check)


def _named(request: Request, name: str) -> Makings:
    check_name(name)
    return makings(request)


def _report(home: Home, name: str) -> dict[str, Any]:
    """Write a report; in a process of its own, since it may take many seconds."""
    summary = report_summary(report_study(home, name))
    return {key: value for key, value in summary.items() if key not in ("html", "json")}


def _json(value: Any) -> Response:
    return Response(json_bytes(value), media_type="application/json")
