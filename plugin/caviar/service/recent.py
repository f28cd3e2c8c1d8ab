"""What many ask for at once, worked out once: the answer is kept while it is fresh."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from .answers import json_bytes

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_FRESH_S: Final = 0.5
#: An answer stays fresh for so many times as long as it took, so that looking on takes a small part of a core at most.
_REST: Final = 20
_LONGEST_REST_S: Final = 30.0  # what took long once, such as behind a lock, must not be told for minutes
_MOST_ANSWERS: Final = 200
_MOST_BYTES: Final = 2**26  # of answers that are bytes


class Recent:
    """Keeps answers for a while; whoever asks while one is worked out waits for it. It belongs to one event loop.

    Args:
        threads: How many answers may be worked out at once.
        clock: Seconds, from any start.
    """

    def __init__(self, *, threads: int = 4, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = CapacityLimiter(threads)
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()  # key → fresh until, answer
        self._working: dict[Hashable, asyncio.Lock] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    async def get(self, key: Hashable, work_out: Callable[[], _T], *, fresh_s: float = _FRESH_S) -> _T:
        """Return the answer to a question, worked out by a function in a thread unless there is a fresh one."""
        working = self._working.setdefault(key, asyncio.Lock())
        try:
            async with working:
                until, answer = self._kept.get(key, (0.0, None))
                if key not in self._kept or self._clock() >= until:
                    began = self._clock()
                    answer = await to_thread.run_sync(work_out, limiter=self._limiter, abandon_on_cancel=True)
                    rest_s = min(_REST * (self._clock() - began), _LONGEST_REST_S)
                    self._keep(key, self._clock() + max(fresh_s, rest_s), answer)
                return answer  # type: ignore[no-any-return]  # what work_out returned for this key
        finally:
            if not working.locked():
                self._working.pop(key, None)

    async def json(self, key: Hashable, make: Callable[[], Any]) -> Response:
        """Return a response whose body is the answer as JSON."""
        body = await self.get(key, lambda: json_bytes(make()))
        return Response(body, media_type="application/json")

    def get_later(self, key: Hashable, work_out: Callable[[], _T], *, fresh_s: float) -> _T | None:
        """Return the last answer to a question that takes long, None before the first; it is renewed meanwhile."""
        until, answer = self._kept.get(key, (0.0, None))
        if (key not in self._kept or self._clock() >= until) and key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._renew(key, work_out, fresh_s=fresh_s))
        return answer  # type: ignore[no-any-return]  # what work_out returned for this key

    async def close(self) -> None:
        """Wait no longer for what is being worked out."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _renew(self, key: Hashable, work_out: Callable[[], Any], *, fresh_s: float) -> None:
        try:
            await self.get(key, work_out, fresh_s=fresh_s)
        except Exception as error:  # noqa: BLE001  (nobody waits for it; a page shows the last answer)
            _logger.warning("%s could not be looked at: %s", key, error)
        finally:
            del self._tasks[key]

    def _keep(self, key: Hashable, until: float, answer: Any) -> None:
        self._kept[key] = (until, answer)
        self._kept.move_to_end(key)
        n_bytes = sum(len(one) for _, one in self._kept.values() if isinstance(one, bytes))
        while len(self._kept) > 1 and (len(self._kept) > _MOST_ANSWERS or n_bytes > _MOST_BYTES):
            _, (_, old) = self._kept.popitem(last=False)
            n_bytes -= len(old) if isinstance(old, bytes) else 0
