"""Work that takes seconds, TensorFlow or much memory, done in another process: the service goes on answering."""

import asyncio
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

from .answers import Refusal

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_MOST_WAITING: Final = 16


class Jobs:
    """One process that does what it is given, one thing after the other; started when it is first needed.

    It belongs to one event loop.

    Args:
        name: For messages: ``predictions``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ProcessPoolExecutor | None = None
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[..., _T], *arguments: Any, timeout_s: float) -> _T:
        """Return what a function returns in the other process; both it and its arguments must be picklable.

        Its time begins when its turn comes: what takes long before it costs it nothing.

        Raises:
            Refusal: If too much is waiting, or it takes too long.
            Exception: Whatever the function raises.
        """
        if self._waiting >= _MOST_WAITING:
            raise Refusal(429, f"Too many {self._name} are waiting.", headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._turn:
                return await self._run(function, *arguments, timeout_s=timeout_s)
        finally:
            self._waiting -= 1

    async def _run(self, function: Callable[..., _T], *arguments: Any, timeout_s: float) -> _T:
        pool = self._started()
        try:
            job = pool.submit(function, *arguments)
            return await asyncio.wait_for(asyncio.wrap_future(job), timeout_s)
        except TimeoutError:
            self._end(pool)
            raise Refusal(503, f"The {self._name} took longer than {timeout_s:.0f} s and were given up.") from None
        except asyncio.CancelledError:  # whoever asked is gone, and the next must not wait for what nobody wants
            self._end(pool)
            raise
        except BrokenProcessPool:
            self._end(pool)
            raise Refusal(
                503, f"The process for {self._name} died. It is started anew with the next request."
            ) from None

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._end(self._pool)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
        return self._pool

    def _end(self, pool: ProcessPoolExecutor) -> None:
        if self._pool is pool:
            self._pool = None
        processes = list((pool._processes or {}).values())  # there is no public way to end one that does not return
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


def _end_with_parent() -> None:
    """End this process when the service is killed: waiting for work it would not notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
