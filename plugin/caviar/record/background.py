"""Writing to MLflow beside the work: whoever records a trial goes on at once."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, final

from .mlflow_mirror import MlflowMirror
from .run_content import TrialRecord

_logger = logging.getLogger(__name__)

#: Trials that may wait to be written. Each holds its curves, some 10 kB; a server that is a minute behind loses none.
MOST_WAITING: Final = 1000
#: Seconds to wait at the end for a store that is behind. What it misses is filled in by the end of the run, which sees
#: every worker's trials, or by `caviar sync`.
DRAIN_S: Final = 5.0
_AT_ONCE: Final = 64  # trials that are handed over together


class Recorder(Protocol):
    """What shows trials to people."""

    def record_many(self, records: Sequence[TrialRecord]) -> None:
        """Show trials as they are."""


@final
class BackgroundMirror:
    """Hands trials to a mirror in a thread of its own.

    Of one trial only the newest record waits, since it holds all that an older one does. Where too many trials wait,
    the mirror does not hear of further ones.

    Args:
        mirror: Used by the thread alone until `close`.
        most_waiting: Trials that may wait.
    """

    def __init__(self, mirror: MlflowMirror, *, most_waiting: int = MOST_WAITING) -> None:
        self._mirror = mirror
        self._most_waiting = most_waiting
        self._waiting: dict[int, TrialRecord] = {}
        self._has_news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def record_many(self, records: Sequence[TrialRecord]) -> None:
        """Have trials written soon; what they hold must not change any more. Returns at once."""
        with self._has_news:
            if self._thread.ident is None:
                self._thread.start()
            for record in records:
                if record.trial.number in self._waiting or len(self._waiting) < self._most_waiting:
                    self._waiting[record.trial.number] = record
                else:
                    _logger.debug("MLflow is behind and does not hear of trial %d.", record.trial.number)
            self._has_news.notify()

    def close(self, *, timeout_s: float = DRAIN_S) -> None:
        """Write what waits, for so many seconds at most, and end the thread."""
        with self._has_news:
            self._closing = True
            self._has_news.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        with self._has_news:
            if self._waiting:
                _logger.debug("MLflow is behind and does not hear of %d trials.", len(self._waiting))
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._has_news:
                while not self._waiting and not self._closing:
                    self._has_news.wait()
                batch = [self._waiting.pop(number) for number in list(self._waiting)[:_AT_ONCE]]
            if not batch:
                return
            try:
                self._mirror.record_many(batch)
            except Exception:  # a thread's end would be silent, and nothing would be written any more
                _logger.exception("MLflow could not be shown %d trials; `caviar sync` fills them in.", len(batch))


@contextlib.contextmanager
def in_background(mirror: MlflowMirror | None, *, drain_s: float = DRAIN_S) -> Iterator[BackgroundMirror | None]:
    """Write to a mirror beside the work; at the end, what waits is written, for ``drain_s`` seconds at most."""
    if mirror is None:
        yield None
        return
    background = BackgroundMirror(mirror)
    try:
        yield background
    finally:
        background.close(timeout_s=drain_s)
