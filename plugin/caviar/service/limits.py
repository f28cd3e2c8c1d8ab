"""How much at a time: rates by address."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST_ADDRESSES: Final = 10_000


class Buckets:
    """A token bucket for each address.

    Args:
        per_s: Tokens that an address gains each second.
        burst: Tokens that it can have at most, and has at first.
        clock: Seconds, from any start.
    """

    def __init__(self, *, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → tokens, and when

    def take(self, address: str) -> bool:
        """Take a token of an address, if it has one left."""
        level = self._level(address)
        has_one = level >= 1
        self._levels[address] = (level - has_one, self._clock())
        self._levels.move_to_end(address)
        if len(self._levels) > _MOST_ADDRESSES:
            self._levels.popitem(last=False)
        return has_one

    def _level(self, address: str) -> float:
        level, at = self._levels.get(address, (self._burst, 0.0))
        return min(self._burst, level + self._per_s * (self._clock() - at))
