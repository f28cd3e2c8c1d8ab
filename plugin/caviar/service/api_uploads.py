"""Data files over HTTP: streamed to the one directory whose files a study file from the network may name."""

import datetime
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi import Path as PathPart

from .answers import Refusal
from .network_study import UPLOAD_NAME
from .predicting import check_data_file
from .requests import REFUSALS, Makings, Strict, makings
from .settings import ServiceSettings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"], route_class=StrictRoute, responses=REFUSALS)

_MOST_FILES: Final = 1000
_BEGUN: Final = "~"  # begins the names of files that are being received; no upload may be called so
#: What a file of data holds, unpacked, at most: so many times what an upload may have.
UNPACKED: Final = 8

BYTES: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "The file itself, not a form.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
UploadName = Annotated[
    str,
    PathPart(pattern=f"^{UPLOAD_NAME}$", description="It ends in .csv, .tsv, .parquet, .npz or .npy."),
]


class Upload(Strict):
    """A file that a study file may name in `data.dataset` and `data.test`."""

    name: str
    bytes: int
    uploaded_at: str


@router.get("", response_model=list[Upload])
async def uploads(request: Request) -> Any:
    """List the uploads, by name."""
    return await to_thread.run_sync(_list, makings(request).settings)


@router.put("/{name}", status_code=201, response_model=Upload, openapi_extra=BYTES)
async def upload(request: Request, name: UploadName) -> Any:
    """Upload a file. A name is given once: a study must find the data that it was begun with."""
    use = makings(request)
    directory = use.settings.uploads
    if (directory / name).exists():
        raise Refusal(409, f"There is an upload {name!r} already.", way_out="Give another name, or DELETE it first.")
    async with received_file(request, use, suffix=Path(name).suffix) as path:
        await use.reports.run(check_data_file, path, use.settings.max_upload_bytes * UNPACKED, timeout_s=60)
        try:
            await to_thread.run_sync(os.link, path, directory / name)  # unlike a move, it never replaces a file
        except FileExistsError:
            raise Refusal(409, f"There is an upload {name!r} already.") from None
        path.chmod(0o644)
    return await to_thread.run_sync(_describe, directory / name)


@router.delete("/{name}", status_code=204)
async def remove(request: Request, name: UploadName) -> None:
    """Remove an upload. Studies that learn from it cannot go on."""
    path = makings(request).settings.uploads / name
    if not path.is_file():
        raise Refusal(404, f"There is no upload {name!r}.")
    await to_thread.run_sync(path.unlink)


@asynccontextmanager
async def received_file(request: Request, use: Makings, *, suffix: str) -> AsyncIterator[Path]:
    """Stream a request's body to a file, which is gone at the end of the block.

    Raises:
        Refusal: If the body is empty, or larger than what is left for uploads.
    """
    settings = use.settings
    settings.uploads.mkdir(parents=True, exist_ok=True)
    files = await to_thread.run_sync(_list, settings)
    left = settings.max_uploads_bytes - sum(file["bytes"] for file in files)
    if len(files) >= _MOST_FILES or left <= 0:
        raise Refusal(413, "There is no room for another upload.", way_out="DELETE one that is not needed.")
    with NamedTemporaryFile(dir=settings.uploads, prefix=_BEGUN, suffix=suffix) as file:
        n = 0
        async for chunk in request.stream():
            n += len(chunk)
            if n > min(left, settings.max_upload_bytes):
                raise Refusal(413, f"The upload is larger than {min(left, settings.max_upload_bytes)} bytes.")
            await to_thread.run_sync(file.write, chunk)
        if not n:
            raise Refusal(422, "The upload is empty.")
        await to_thread.run_sync(file.flush)
        yield Path(file.name)


def _list(settings: ServiceSettings) -> list[dict[str, Any]]:
    if not settings.uploads.is_dir():
        return []
    return [
        _describe(path)
        for path in sorted(settings.uploads.iterdir())
        if path.is_file() and not path.name.startswith(_BEGUN)
    ]


def _describe(path: Path) -> dict[str, Any]:
    stat = path.stat()
    at = datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC)
    return {"name": path.name, "bytes": stat.st_size, "uploaded_at": at.isoformat(timespec="seconds")}
