"""What one side did in one round, in numbers that can be compared."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Seconds, in the order in which they are shown.
PHASES: tuple[str, ...] = ("compile_s", "training_s", "bookkeeping_s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timings:
    """What our workers say about their time, summed over them.

    Attributes:
        seconds: Of ``PHASES``, each of all workers.
        padded_flop: Operations of the matrix products that were run, padding included; None where not known.
        n_workers: Workers that ran side by side, however often their processes were replaced.
    """

    seconds: Mapping[str, float]
    padded_flop: float | None
    n_workers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideRun:
    """One side's run.

    Attributes:
        side: Its name.
        n_trials: Trials that ended.
        wall_s: From the start of its process to the end.
        window_s: From the start of its first trial to the end of its last: the part that grows with the trials.
        best: The best validation accuracy.
        flop: Operations of the matrix products of the epochs that were run, without padding.
        epochs: Epochs that were run.
        peak_mb: Peak memory of all its processes.
        load_before: Load average before it.
        timings: Where its time went; ours only.
        reached_s: Seconds from its start until some trial reached the target.
        note: What else a reader must know.
    """

    side: str
    n_trials: int
    wall_s: float
    window_s: float
    best: float | None
    flop: float
    epochs: int
    peak_mb: float
    load_before: float
    timings: Timings | None = None
    reached_s: float | None = None
    note: str = ""

    def rate(self, n_trials: int) -> float | None:
        """Return the trials a minute of a study of n_trials, start-up and end included.

        Where fewer were run, the part that grows with the trials is taken to grow in proportion.
        """
        if self.n_trials == 0:
            return None
        constant = self.wall_s - self.window_s
        return 60.0 * n_trials / (constant + self.window_s * n_trials / self.n_trials)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skipped:
    """A side that could not run, and why."""

    side: str
    reason: str


Outcome = SideRun | Skipped


def read_timings(home: Path, *, since: float, n_workers: int) -> Timings | None:
    """Return what workers wrote below a home's ``timings/`` since then (seconds since 1970); None where nothing.

    One JSON object a file. Each has ``compile_s``, ``training_s``, ``bookkeeping_s`` and, of a fleet, ``padded_flop``.
    """
    files = [path for path in sorted((home / "timings").glob("*.json")) if path.stat().st_mtime >= since]
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    if not tables:
        return None
    flops = [table["padded_flop"] for table in tables if table.get("padded_flop") is not None]
    return Timings(
        seconds={phase: sum(float(table.get(phase, 0.0)) for table in tables) for phase in PHASES},
        padded_flop=sum(flops) if flops else None,
        n_workers=n_workers,
    )


def best_of(curves: Sequence[Sequence[float]]) -> float | None:
    """Return the best value of any curve, or None where there is none."""
    return max((max(curve) for curve in curves if curve), default=None)
