"""JSON from the network: no NaN, no number that no program means, and nothing nested without end."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from .answers import Refusal

_DEEPEST: Final = 20
_LONGEST_NUMBER: Final = 40
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class StrictRoute(APIRoute):
    """A route whose body, where it is JSON, is read by ``read_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_strictly(request: Request) -> Response:
            return await answer(_StrictRequest(request.scope, request.receive))

        return answer_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        Refusal: If it is not JSON, is nested too deeply, or has NaN, an infinity, a number with too many digits or half
            a surrogate pair.
    """
    try:
        text = body.decode()
        _check_depth(text)
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_int, parse_float=_float)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise Refusal(400, "The body is not UTF-8.") from error
    except UnicodeEncodeError as error:
        raise Refusal(422, "The JSON has half of a surrogate pair, which is no text.") from error
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > _DEEPEST:
                raise Refusal(400, f"The JSON is nested too deeply: {_DEEPEST} levels are allowed.")
        elif token[0] in "]}":
            depth -= 1


def _refuse_constant(name: str) -> Any:
    raise Refusal(422, f"The JSON has {name}, which is no number.", way_out="End a trial without a value as failed.")


def _int(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise Refusal(422, f"The JSON has a number of {len(text)} digits.")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refusal(422, f"The JSON has {text[:_LONGEST_NUMBER]}, which is too large for a number.")
    return value
