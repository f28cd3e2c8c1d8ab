"""Runs over HTTP: studies and races that the service starts, and that outlive it."""

import dataclasses
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from .answers import json_answer
from .api_studies import TOML_BODY, checked_study
from .network_study import toml_text
from .requests import REFUSALS, Strict, StudyName, check_name, makings
from .runs import RunInfo, Runs
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1", tags=["Runs"], route_class=StrictRoute, responses=REFUSALS)

_RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,199}$")]


class Race(Strict):
    """How a champion is found."""

    top: Annotated[int, Field(ge=1, le=20)] = 5
    seeds: Annotated[int, Field(ge=2, le=50)] = 5
    fresh: bool = False


@router.post("/studies", status_code=202, openapi_extra=TOML_BODY)
async def submit(
    request: Request, fresh: Annotated[bool, Query(description="Archive a study of this name first.")] = False
) -> Response:
    """Check a study file and start it: a process of its own, which outlives the service."""
    runs = _runs(request)
    spec = await checked_study(request)
    return _run(await to_thread.run_sync(lambda: runs.start(toml_text(spec), fresh=fresh)), status=202)


@router.post("/studies/{name}/champion", status_code=202)
async def race(request: Request, name: StudyName, how: Race) -> Response:
    """Start the race for a study's champion."""
    check_name(name)
    runs = _runs(request)
    await to_thread.run_sync(makings(request).store.study, name)
    started = await to_thread.run_sync(lambda: runs.start_champion(name, top=how.top, seeds=how.seeds, fresh=how.fresh))
    return _run(started, status=202)


@router.get("/runs")
async def list_runs(
    request: Request, study: Annotated[str | None, Query(max_length=150, description="Only of this study.")] = None
) -> Response:
    """List the runs that the service started, the latest first."""
    found = await to_thread.run_sync(lambda: _runs(request).list(study=study))
    return json_answer([dataclasses.asdict(run) for run in found])


@router.get("/runs/{run}")
async def show_run(request: Request, run: _RunId) -> Response:
    """Tell how a run stands, with the end of its log."""
    runs = _runs(request)
    found = await to_thread.run_sync(runs.get, run)
    return _run(found, log=await to_thread.run_sync(runs.log, run))


@router.post("/runs/{run}/stop")
async def stop_run(request: Request, run: _RunId) -> Response:
    """Ask a run to end after the current epoch. Its trials go on when the study is run again."""
    return _run(await to_thread.run_sync(_runs(request).stop, run))


def _runs(request: Request) -> Runs:
    runs = request.app.state.runs
    assert isinstance(runs, Runs)
    return runs


def _run(run: RunInfo, *, status: int = 200, **more: Any) -> Response:
    return json_answer(dataclasses.asdict(run) | more, status=status)
