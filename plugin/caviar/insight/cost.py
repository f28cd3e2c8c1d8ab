"""Time and cost: what a search has trained, and what pruning has saved of it."""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np

from .rows import TrialRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a search took.

    Attributes:
        epochs_trained: Over all trials, failed and running ones too.
        seconds_trained: Of building, compiling and training, over all trials that kept it.
        epochs_saved: Not trained, since their trials were pruned.
        seconds_saved: What those epochs would have taken: an estimate.
        share_saved: ``epochs_saved`` of all epochs that the same trials would have trained unpruned, in [0, 1].
        start_up_s: Seconds that a trial takes to build and compile, as the estimate has it.
        full_trial_s: Median seconds of a complete trial, or None before the first.
        busy_s: Seconds in which at least one trial ran.
        lanes: How many trials ran at once, on average over ``busy_s``; None where nothing is known.
        diverged: Pruned trials whose training ran to infinity.
    """

    epochs_trained: int
    seconds_trained: float
    epochs_saved: int
    seconds_saved: float
    share_saved: float
    start_up_s: float
    full_trial_s: float | None
    busy_s: float
    lanes: float | None
    diverged: int


def measure_cost(rows: Sequence[TrialRow], *, epochs: int) -> Cost:
    """Add up what the trials took.

    The seconds saved are the epochs that each pruned trial did not train, times its own seconds an epoch. Building and
    compiling, which more epochs would not have repeated, are a large part of a short trial, so its seconds an epoch are
    those of the line through all finished trials' (epochs, seconds), times how much longer or shorter than that line
    says the trial itself took.

    Args:
        rows: All trials; inherited ones are left out.
        epochs: Of a trial that is not pruned, at least 1.
    """
    rows = [row for row in rows if not row.inherited]
    timed = [row for row in rows if row.is_finished and row.seconds and row.curve]
    start_up_s, epoch_s = _start_and_epoch_s([(len(row.curve), row.seconds or 0.0) for row in timed])
    pruned = [row for row in rows if row.state == "pruned"]
    trained = sum(len(row.curve) for row in rows)
    saved = sum(max(0, epochs - len(row.curve)) for row in pruned)
    full = [row.seconds for row in rows if row.state == "complete" and row.seconds]
    spans = [(row.started, row.ended) for row in rows if row.started is not None and row.ended is not None]
    busy_s = _covered_s(spans)
    total_s = sum((end - start).total_seconds() for start, end in spans)
    return Cost(
        epochs_trained=trained,
        seconds_trained=round(sum(row.seconds or 0.0 for row in rows), 3),
        epochs_saved=saved,
        seconds_saved=round(
            sum(
                max(0, epochs - len(row.curve))
                * epoch_s
                * (row.seconds or 0.0)
                / (start_up_s + epoch_s * len(row.curve))
                for row in timed
                if row.state == "pruned"
            ),
            3,
        ),
        share_saved=saved / (saved + trained) if saved else 0.0,
        start_up_s=start_up_s,
        full_trial_s=float(np.median(full)) if full else None,
        busy_s=round(busy_s, 3),
        lanes=round(total_s / busy_s, 2) if busy_s > 0 else None,
        diverged=sum(row.diverged for row in pruned),
    )


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``0.4 s``, ``48 s``, ``12 min``, ``3.1 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _start_and_epoch_s(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return a trial's seconds of starting up and of one epoch, by the line through (epochs, seconds), neither below 0.

    Where the trials have no two lengths, or longer ones took no longer, everything is counted to the epochs.
    """
    if len({epochs for epochs, _ in points}) >= 2:
        slope, intercept = np.polyfit([epochs for epochs, _ in points], [seconds for _, seconds in points], 1)
        if slope > 0 and intercept >= 0:
            return round(float(intercept), 3), float(slope)
    epochs_trained = sum(epochs for epochs, _ in points)
    return 0.0, sum(seconds for _, seconds in points) / epochs_trained if epochs_trained else 1.0


def _covered_s(spans: Sequence[tuple[datetime.datetime, datetime.datetime]]) -> float:
    covered, until = 0.0, None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        if end > begin:
            covered += (end - begin).total_seconds()
            until = end
    return covered
