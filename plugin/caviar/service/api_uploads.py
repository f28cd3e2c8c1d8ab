"""Data files over HTTP: streamed to the one directory whose files a study file from the network may name."""

import datetime
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi import Path as PathPart

from ..errors import DataError
from .answers import Refusal
from .network_study import UPLOAD_NAME
from .predicting import check_data_file
from .requests import REFUSALS, Makings, Strict, makings
from .strict_json import StrictRoute

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"], route_class=StrictRoute, responses=REFUSALS)

_MOST_FILES: Final = 1000
_BEGUN: Final = "~"  # begins the names of files that are being received; no upload may be called so
_STALE_S: Final = 3600  # after which one that no byte was added to is left of a service that was killed
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
    return await to_thread.run_sync(_list, makings(request).settings.uploads)


@router.put("/{name}", status_code=201, response_model=Upload, openapi_extra=BYTES)
async def upload(request: Request, name: UploadName) -> Any:
    """Upload a file. A name is given once: a study must find the data that it was begun with."""
    use = makings(request)
    directory = use.settings.uploads
    if (directory / name).exists():
        raise Refusal(409, f"There is an upload {name!r} already.", way_out="Give another name, or DELETE it first.")
    async with received_file(request, use, called=name) as path:
        await use.reports.run(check_data_file, path, use.settings.max_upload_bytes * UNPACKED, timeout_s=60)
        try:
            await to_thread.run_sync(os.link, path, directory / name)  # unlike a move, it never replaces a file
        except FileExistsError:
            raise Refusal(409, f"There is an upload {name!r} already.") from None
        path.chmod(0o644)
        return _describe(path, name=name)


@router.delete("/{name}", status_code=204)
async def remove(request: Request, name: UploadName) -> None:
    """Remove an upload. Studies that learn from it cannot go on."""
    path = makings(request).settings.uploads / name
    try:
        await to_thread.run_sync(path.unlink)
    except FileNotFoundError:
        raise Refusal(404, f"There is no upload {name!r}.") from None


@asynccontextmanager
async def received_file(request: Request, use: Makings, *, called: str) -> AsyncIterator[Path]:
    """Stream a request's body to a file, which is gone at the end of the block.

    Args:
        request: Whose body it is.
        use: Where it stands meanwhile, and how large it may be.
        called: Its name, for its suffix and for messages.

    Raises:
        Refusal: If the body is empty, or larger than what is left for uploads.
        DataError: If the block raises one: it names the file as its sender does.
    """
    settings = use.settings
    settings.uploads.mkdir(parents=True, exist_ok=True)
    n_files, n_bytes = await to_thread.run_sync(_count, settings.uploads)
    # What others are sending now has its room already, whether or not it comes.
    left = settings.max_uploads_bytes - n_bytes - use.n_receiving * settings.max_upload_bytes
    most = min(left, settings.max_upload_bytes)
    if n_files >= _MOST_FILES or left <= 0:
        raise Refusal(413, "There is no room for another upload.", way_out="DELETE one that is not needed.")
    use.n_receiving += 1
    try:
        with NamedTemporaryFile(dir=settings.uploads, prefix=_BEGUN, suffix=Path(called).suffix) as file:
            n = 0
            async for chunk in request.stream():
                n += len(chunk)
                if n > most:
                    raise Refusal(413, f"The upload is larger than {most} bytes.")
                await to_thread.run_sync(file.write, chunk)
            if not n:
                raise Refusal(422, "The upload is empty.")
            await to_thread.run_sync(file.flush)
            try:
                yield Path(file.name)
            except DataError as error:
                raise DataError(str(error).replace(Path(file.name).name, called)) from error
    finally:
        use.n_receiving -= 1


def remove_stale(uploads: Path) -> None:
    """Remove what a service that was killed had begun to receive."""
    for path in uploads.glob(f"{_BEGUN}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _count(uploads: Path) -> tuple[int, int]:
    files = _list(uploads)
    return len(files), sum(file["bytes"] for file in files)


def _list(uploads: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(uploads.glob("*")):
        with suppress(FileNotFoundError):  # removed meanwhile
            if path.is_file() and not path.name.startswith(_BEGUN):
                found.append(_describe(path, name=path.name))
    return found


def _describe(path: Path, *, name: str) -> dict[str, Any]:
    stat = path.stat()
    at = datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC)
    return {"name": name, "bytes": stat.st_size, "uploaded_at": at.isoformat(timespec="seconds")}
