"""What the service says when it refuses: one form for every error, and never a traceback."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from optuna.exceptions import StorageInternalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ..errors import (
    CaviarError,
    DataError,
    FatalError,
    SpecError,
    StorageError,
    StorageUnavailableError,
    UnknownStudyError,
)
from ..storage.addresses import masked
from ..storage.leases import LeaseLost
from ..storage.schema import explain_outage

_LONGEST: Final = 2000


class Conflict(CaviarError):  # noqa: N818  (it is an answer, as HTTPException is)
    """What was asked for does not fit what is there."""


class NotThere(CaviarError):  # noqa: N818
    """What was asked about does not exist."""


#: The first that fits decides.
_STATUS: Final[tuple[tuple[type[CaviarError], int], ...]] = (
    (UnknownStudyError, 404),
    (NotThere, 404),
    (Conflict, 409),
    (LeaseLost, 409),
    (FatalError, 409),
    (StorageUnavailableError, 503),
    (StorageError, 409),
    (SpecError, 400),
    (DataError, 400),
)


class Refusal(HTTPException):
    """An answer that refuses a request; FastAPI lets Starlette's exception through where it reads a body.

    Args:
        status: The HTTP status.
        message: What was wrong, what was received and what is allowed.
        way_out: What to do, if the message does not say it.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, *, way_out: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.way_out = way_out


def error_answer(
    status: int, message: str, *, way_out: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer that refuses a request: ``{"error": {"message", "way_out"?}}``."""
    error = {"message": shown_message(message)} | ({} if way_out is None else {"way_out": shown_message(way_out)})
    return JSONResponse({"error": error}, status_code=status, headers=dict(headers or {}))


def shown_message(message: str) -> str:
    """Return a message without secrets and control characters, and not too long for a page."""
    text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in masked(message))
    text = re.sub(r"\S{201,}", lambda word: f"{word[0][:100]}…{word[0][-50:]}", text)
    return text if len(text) <= _LONGEST else f"{text[:1500]} … {text[-500:]}"


def jsonable(value: Any) -> Any:
    """Return a value with NaN and infinities, which JSON lacks, replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    return value


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON, NaN and infinities as null."""
    return json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        errors="replace"
    )


def json_answer(value: Any, *, status: int = 200) -> Response:
    """Return a response whose body is a value as JSON, NaN and infinities as null."""
    return Response(json_bytes(value), status_code=status, media_type="application/json")


def explain_errors(app: FastAPI) -> None:
    """Have an app answer every error in one form."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(CaviarError, _caviar_error)
    app.add_exception_handler(StorageInternalError, _outage)


def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return error_answer(error.status_code, error.detail, way_out=error.way_out, headers=error.headers)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    known = {404: f"There is nothing at {request.url.path!r}.", 405: f"{request.method} is not possible here."}
    message = known[error.status_code] if error.status_code in known else str(error.detail)
    return error_answer(error.status_code, message, headers=error.headers)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    status = 400 if any(one["type"] == "json_invalid" for one in found) else 422
    said = [f"{'.'.join(str(part)[:50] for part in one['loc'])}: {one['msg']}" for one in found[:5]]
    return error_answer(status, "; ".join(said), way_out="/v1/openapi.json says what is allowed.")


def _caviar_error(_request: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return error_answer(status, str(error))


def _outage(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StorageInternalError)
    return error_answer(503, explain_outage(error))
