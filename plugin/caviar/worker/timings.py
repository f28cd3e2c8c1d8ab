"""How a worker spends its time."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..atomic_write import write_whole

_logger = logging.getLogger(__name__)

Phase = Literal["compile_s", "training_s", "bookkeeping_s", "sampling_s", "waiting_s"]


@dataclasses.dataclass(kw_only=True)
class Timings:
    """Seconds of one worker by activity, and the arithmetic of its training.

    Attributes:
        compile_s: First epochs of programs that were new to the process, including tracing or loading them.
        training_s: All other epochs.
        bookkeeping_s: Claiming trials, reports, pruning, storing and MLflow.
        sampling_s: Drawing hyperparameters and planning fleets.
        waiting_s: Waiting for others to finish the last trials.
        flop: Arithmetic of the training steps' products, without padding.
        padded_flop: The same with padding.
        traces: Programs that were traced.
        trials: Trials that ended.
        fleets: Fleets that were started.
    """

    compile_s: float = 0.0
    training_s: float = 0.0
    bookkeeping_s: float = 0.0
    sampling_s: float = 0.0
    waiting_s: float = 0.0
    flop: float = 0.0
    padded_flop: float = 0.0
    traces: int = 0
    trials: int = 0
    fleets: int = 0

    @contextlib.contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: Phase, seconds: float) -> None:
        """Count seconds."""
        setattr(self, name, getattr(self, name) + seconds)

    def save(self, path: Path) -> None:
        """Write them as JSON; a full disk must not stop the run."""
        try:
            write_whole(path, json.dumps(dataclasses.asdict(self)), durable=False)
        except OSError as error:
            _logger.debug("The timings could not be written to %s: %s", path, error)
