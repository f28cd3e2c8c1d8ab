"""What many ask for at once, worked out once: the answer is kept while it is fresh."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_MOST: Final = 200
#: An answer stays fresh for at least so many times as long as it took, so that asking takes a tenth of a core at most.
_REST: Final = 10


class Recent:
    """Keeps answers for a while. All methods may be called from any thread.

    Args:
        clock: Seconds, from any start.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._working: dict[Hashable, threading.Lock] = {}
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()  # key → fresh until, answer

    def get(self, key: Hashable, work_out: Callable[[], _T], *, fresh_s: float) -> _T:
        """Return the answer to a question; whoever asks while it is worked out waits for it."""
        with self._lock:
            working = self._working.setdefault(key, threading.Lock())
        with working:
            known = self._kept.get(key)
            if known is not None and self._clock() < known[0]:
                return known[1]  # type: ignore[no-any-return]  # what work_out returned for this key
            began = self._clock()
            answer = work_out()
            now = self._clock()
            self._keep(key, now + max(fresh_s, _REST * (now - began)), answer)
            return answer

    def get_later(self, key: Hashable, work_out: Callable[[], _T], *, fresh_s: float) -> _T | None:
        """Return the last answer to a question that takes long, None before the first; it is renewed meanwhile."""
        with self._lock:
            known = self._kept.get(key)
            working = self._working.setdefault(key, threading.Lock())
        if (known is None or self._clock() >= known[0]) and not working.locked():
            threading.Thread(
                target=lambda: self.get(key, work_out, fresh_s=fresh_s), name="caviar-recent", daemon=True
            ).start()
        return None if known is None else known[1]

    def _keep(self, key: Hashable, until: float, answer: Any) -> None:
        with self._lock:
            self._kept[key] = (until, answer)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                old, _ = self._kept.popitem(last=False)
                self._working.pop(old, None)
