"""Answers that many clients ask for at once: made once, and again when they are old."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from .answers import jsonable

_MOST_ANSWERS: Final = 200
_MOST_BYTES: Final = 2**26
_YOUNGEST_S: Final = 0.5
#: An answer is kept for so many times as long as it took, so that looking on takes at most a part of a core.
_SHARE: Final = 20


class FreshAnswers:
    """Keeps JSON answers for a moment, which grows with what they cost; whoever asks meanwhile waits for the same one.

    Args:
        threads: How many may be made at once.
    """

    def __init__(self, *, threads: int = 4) -> None:
        self._limiter = CapacityLimiter(threads)
        self._answers: OrderedDict[tuple[str, ...], tuple[float, bytes]] = OrderedDict()  # until when, and what
        self._locks: dict[tuple[str, ...], asyncio.Lock] = {}

    async def get(self, key: tuple[str, ...], make: Callable[[], Any]) -> Response:
        """Return the answer of a key, made by a function in a thread unless there is a fresh one."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                until, body = self._answers.get(key, (0.0, b""))
                if time.monotonic() >= until:
                    body = await to_thread.run_sync(self._make, key, make, limiter=self._limiter)
        finally:
            if not lock.locked() and self._locks.get(key) is lock:
                del self._locks[key]
        return Response(body, media_type="application/json")

    def _make(self, key: tuple[str, ...], make: Callable[[], Any]) -> bytes:
        started = time.monotonic()
        body = json_bytes(make())
        now = time.monotonic()
        self._answers[key] = (now + max(_YOUNGEST_S, _SHARE * (now - started)), body)
        self._answers.move_to_end(key)
        kept = list(self._answers.items())  # made in one step, as other threads add theirs
        n_bytes = sum(len(one) for _, (_, one) in kept)
        for old, (_, one) in kept[:-1]:
            if len(self._answers) <= _MOST_ANSWERS and n_bytes <= _MOST_BYTES:
                break
            n_bytes -= len(one)
            self._answers.pop(old, None)
        return body


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON, NaN and infinities as null."""
    return json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        errors="replace"
    )
