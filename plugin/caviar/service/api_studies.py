"""Studies over HTTP: listed, checked, started, looked at, watched, reported on, controlled."""

import asyncio
import dataclasses
import functools
import time
from typing import Annotated, Any, Final, Literal

import optuna
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field

from ..commands.control import POLL_S, ControlResult, Posted, look_control, post_control, result_line
from ..commands.report import report_study, report_summary
from ..commands.run import check_runnable
from ..commands.status import status_of, trials_of
from ..config import MAX_EPOCHS
from ..errors import CaviarError, FatalError, StorageError
from ..interventions import LiveHyperparameter
from ..interventions import Request as ControlRequest
from ..spec import StudySpec, spec_table
from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from ..storage.remote import RemotePath
from .answers import Conflict, NotThere, Refusal, json_answer
from .events import curve_of, metric_of
from .network_study import network_spec
from .requests import MAX_INT, REFUSALS, Makings, Strict, StudyName, TrialNumber, check_name, makings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1", tags=["Studies"], route_class=StrictRoute, responses=REFUSALS)

_MOST_CURVES: Final = 1000
_LARGEST: Final = 1e100
_MOST_CONTROLLING: Final = 100  # each looks for its answer ten times a second
#: A report's page draws with scripts that stand in it, so it is shown as a foreign page: it can ask us nothing.
_REPORT_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'self'"
)
_REPORT_HEADERS: Final = {"Content-Security-Policy": _REPORT_POLICY}
TOML_BODY: Final = {
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
    """What to do with a trial."""

    action: Literal["watch", "set", "pause", "resume", "stop", "epochs", "back", "fork"]
    values: Annotated[
        dict[LiveHyperparameter, Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]],
        Field(description="Of `set`, and of a fork's first change."),
    ] = Field(default_factory=dict)
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] | None = Field(
        default=None, description="Of `epochs`: how many the trial trains in all."
    )
    epoch: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] | None = Field(
        default=None, description="Of `back` and `fork`: after which epoch."
    )
    who: Annotated[str, Field(pattern=r"^[\w .@-]{1,60}$")] = Field(
        default="client", description="Who asks; the address is noted too."
    )
    wait_s: Annotated[float, Field(ge=0, le=30, description="Seconds to wait until it has taken effect.")] = 10.0


class Controlled(Strict):
    """What became of it."""

    trial: Annotated[int, Field(description="Its number; of a fork, the new trial's.")]
    done: Annotated[bool, Field(description="False if its worker has not read it yet; it still stands.")]
    epoch: Annotated[int | None, Field(description="Before which epoch it took effect.")]
    message: str


@router.get("/studies")
async def studies(request: Request) -> Response:
    """List every study of the home: how far it is, its best trial, its rate and its workers."""
    use = makings(request)
    return await use.recent.json(("studies",), use.store.studies)


@router.post("/validate", response_model=Checked, openapi_extra=TOML_BODY)
async def validate(request: Request) -> Any:
    """Check a study file as a run would, without touching the data: its keys, ranges, sizes, sampler and pruner."""
    spec = await checked_study(request)
    return {"study": spec.name, "file": spec_table(spec)}


@router.get("/studies/{name}")
async def status(request: Request, name: StudyName) -> Response:
    """Tell how a study stands, as `caviar status --json` does."""
    use = _named(request, name)
    tell = functools.partial(status_of, use.settings.home)
    return await use.recent.json(("status", name), lambda: use.store.read(name, tell))


@router.get("/studies/{name}/trials")
async def trials(request: Request, name: StudyName) -> Response:
    """Return a study's trials, by number, as `caviar trials --json` does."""
    use = _named(request, name)
    return await use.recent.json(("trials", name), lambda: use.store.read(name, lambda _, study: trials_of(study)))


@router.get("/studies/{name}/curves")
async def curves(
    request: Request,
    name: StudyName,
    trials: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_INT)]] | None, Query(max_length=100, description="Only these.")
    ] = None,
    last: Annotated[int, Query(ge=1, le=_MOST_CURVES, description="The newest so many.")] = 100,
) -> Response:
    """Return the learning curves of a study's trials: for each, its `values` as pairs of step and metric.

    `changes` says what was changed by hand: after how many epochs, and what.
    """
    use = _named(request, name)

    def make(_storage: LeasedStorage, study: optuna.Study) -> list[dict[str, Any]]:
        metric, found = metric_of(study), study.get_trials(deepcopy=False)
        wanted = found[-last:] if trials is None else [one for one in found if one.number in set(trials)]
        return [curve_of(trial, metric) for trial in wanted]

    key = ("curves", name, str(sorted(set(trials or ()))), str(last))
    return await use.recent.json(key, lambda: use.store.read(name, make))


@router.get(
    "/studies/{name}/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream(request: Request, name: StudyName) -> Response:
    """Watch a study: server-sent events, until you leave.

    `picture` comes first: all trials that have not ended, with their curves, and the counts. Each `update` has the
    trials that changed, with the new points of their curves, or with all of them where `whole` is true: a trial that is
    steered by hand may have gone back. A point may come twice. `gone` ends the stream.
    """
    lines = await _named(request, name).streams.watch(name)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


@router.post("/studies/{name}/report")
async def make_report(request: Request, name: StudyName) -> Response:
    """Write the report on a study, and return its findings in words; `GET` shows its page."""
    use = _named(request, name)
    await to_thread.run_sync(use.store.study, name)
    return json_answer(await use.reports.run(_report, use.settings.home, name, timeout_s=600))


@router.get(
    "/studies/{name}/report",
    response_class=FileResponse,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def show_report(request: Request, name: StudyName) -> Response:
    """Return the page of the last report on a study."""
    use = _named(request, name)
    page, _ = use.settings.home.report_files(name)
    if isinstance(page, RemotePath):
        content = await to_thread.run_sync(_page_elsewhere, page)
    elif page.is_file():
        return FileResponse(page, media_type="text/html", headers=_REPORT_HEADERS)
    else:
        content = None
    if content is None:
        way_out = f"POST /v1/studies/{name}/report writes one."
        raise Refusal(404, f"There is no report on the study {name!r} yet.", way_out=way_out)
    return Response(content, media_type="text/html", headers=_REPORT_HEADERS)


@router.post("/studies/{name}/trials/{number}/control", response_model=Controlled)
async def control(request: Request, name: StudyName, number: TrialNumber, what: Control) -> Any:
    """Steer a trial while it trains: it takes effect before its next epoch. A fork may be of one that has ended."""
    use = _named(request, name)
    values = {str(name): value for name, value in what.values.items()}
    who = f"{what.who}@{request.client.host if request.client else 'unknown'}"
    asked = ControlRequest(action=what.action, values=values, epochs=what.epochs, epoch=what.epoch, who=who)

    def post(storage: LeasedStorage, study: optuna.Study) -> tuple[LeasedStorage, ControlResult | Posted]:
        n_trials = len(study.get_trials(deepcopy=False))
        if number >= n_trials:
            raise NotThere(f"The study {name!r} has no trial {number}: it has {n_trials}.")
        return storage, post_control(use.settings.home, storage, study, number, asked)

    if use.n_controlling >= _MOST_CONTROLLING:
        raise Refusal(429, "Too many requests wait for their trials.", headers={"Retry-After": "5"})
    use.n_controlling += 1
    deadline = time.monotonic() + what.wait_s
    try:
        storage, found = await to_thread.run_sync(use.store.read, name, post)
        while isinstance(found, Posted):
            done = await to_thread.run_sync(look_control, storage, found)
            if done is None and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
            else:
                found = done or ControlResult(trial=number, done=False)
    except (StorageError, FatalError, NotThere):
        raise
    except CaviarError as error:  # the trial has ended, is not that far, or cannot do that
        raise Conflict(str(error)) from error
    finally:
        use.n_controlling -= 1
    return dataclasses.asdict(found) | {"message": result_line(name, asked, found)}


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


def _page_elsewhere(page: RemotePath) -> bytes | None:
    try:
        return page.read_bytes()
    except FileNotFoundError:
        return None


def _report(home: Home, name: str) -> dict[str, Any]:
    """Write a report; in a process of its own, since it may take many seconds."""
    summary = report_summary(report_study(home, name))
    return {key: value for key, value in summary.items() if key not in ("html", "json")}
