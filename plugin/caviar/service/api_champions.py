"""Champions over HTTP: listed, described, and asked for predictions."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from ..champion.standing import champion_names, read_description
from ..storage.home import Home
from .answers import Refusal, json_answer
from .api_uploads import BYTES, UNPACKED, received_file
from .predicting import predict_rows, predict_upload
from .requests import REFUSALS, Strict, StudyName, makings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1/champions", tags=["Champions"], route_class=StrictRoute, responses=REFUSALS)

_TIMEOUT_S: Final = 300
_Format = Literal["csv", "tsv", "parquet", "npz", "npy", "png", "jpg", "jpeg"]


class Rows(Strict):
    """Examples to predict."""

    rows: Annotated[
        list[dict[str, bool | int | float | str | None] | list[Any]],
        Field(min_length=1, description="Of a table, objects of column and value; else each example's numbers."),
    ]


@router.get("")
async def champions(request: Request) -> Response:
    """List the champions: name, metric, classes, and how they did on the test split."""
    use = makings(request)
    return await use.recent.json(("champions",), lambda: _list(use.settings.home))


@router.get("/{name}")
async def describe(request: Request, name: StudyName) -> Response:
    """Return all that a champion's `champion.json` says."""
    use = makings(request)
    return json_answer(await to_thread.run_sync(_description, use.settings.home, name))


@router.post("/{name}/predict")
async def predict(request: Request, name: StudyName, asked: Rows) -> Response:
    """Return a champion's labels and probabilities for rows."""
    use = makings(request)
    if len(asked.rows) > use.settings.max_rows:
        raise Refusal(413, f"At most {use.settings.max_rows} rows are predicted at a time.", way_out="Send a file.")
    await to_thread.run_sync(_description, use.settings.home, name)
    found = await use.predictions.run(predict_rows, use.settings.home, name, asked.rows, timeout_s=_TIMEOUT_S)
    return json_answer(found)


@router.post(
    "/{name}/predict-file",
    openapi_extra=BYTES,
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def predict_file(
    request: Request,
    name: StudyName,
    format: Annotated[_Format, Query(description="What the body is.")],  # noqa: A002
) -> Response:
    """Return a champion's labels and probabilities for a file, as CSV."""
    use = makings(request)
    home, most = use.settings.home, use.settings.max_upload_bytes * UNPACKED
    await to_thread.run_sync(_description, home, name)
    async with contextlib.AsyncExitStack() as stack:
        path = await stack.enter_async_context(received_file(request, use, called=f"input.{format}"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = directory / "predictions.csv"
        await use.predictions.run(predict_upload, home, name, path, output, most, timeout_s=_TIMEOUT_S)
        kept = stack.pop_all()
    return StreamingResponse(_content(output, kept), media_type="text/csv")


async def _content(path: Path, kept: contextlib.AsyncExitStack) -> AsyncIterator[bytes]:
    async with kept:
        with path.open("rb") as file:
            while part := await to_thread.run_sync(file.read, 2**16):
                yield part


def _list(home: Home) -> list[dict[str, Any]]:
    found = []
    for name in champion_names(home.champions):
        with contextlib.suppress(Refusal, KeyError, TypeError):
            table = _description(home, name)
            accuracy = table["test"]["accuracy"][0]
            facts = {"name": table["name"], "metric": table["race"]["metric"], "classes": table["classes"]}
            found.append({**facts, "input": table["input"], "test_accuracy": accuracy})
    return found


def _description(home: Home, name: str) -> dict[str, Any]:
    try:
        return read_description(home.champions, name)
    except FileNotFoundError:
        way_out = f"Make one with `caviar champion {name}`."
        raise Refusal(404, f"The study {name!r} has no champion.", way_out=way_out) from None
    except (OSError, ValueError) as error:
        raise Refusal(409, f"The champion of {name!r} is damaged.", way_out="Make it anew.") from error
